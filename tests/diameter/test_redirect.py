"""Redirect indications: the URI, the AVPs, what is kept for what."""

from __future__ import annotations

import pytest

from diameter.avp import Avp
from diameter.base_commands import CX_APPLICATION
from diameter.dictionary import base
from diameter.dictionary.base import BASE
from diameter.dictionary.sh import SH
from diameter.errors import RemoteDiameterError
from diameter.message import Message
from diameter.redirect import (
    DiameterUri,
    RedirectCache,
    RedirectUsage,
    read_redirection_untrusted,
)


def request(
    *, session: str = "s1", realm: str = "realm", user_name: str | None = None, application_id: int = 16777217
) -> Message:
    avps = [base.SESSION_ID.avp(session), base.DESTINATION_REALM.avp(realm), base.USER_NAME.optional(user_name)]
    message = SH.command("UDR").message(avps)
    return Message(message.code, application_id, message.flags, message.avps)


def redirect(*avps: Avp, hosts: tuple[str, ...] = ("aaa://hss1.realm",), agent: str = "slf") -> Message:
    named = [BASE["Redirect-Host"].avp(host) for host in hosts]
    identity = [base.ORIGIN_HOST.avp(agent), base.ORIGIN_REALM.avp("realm")]
    return request().build_answer([base.RESULT_CODE.avp(3006), *identity, *named, *avps], is_error=True)


def usage_avps(usage: int, cache_s: int | None = 60) -> list[Avp]:
    found = [BASE["Redirect-Host-Usage"].avp(usage)]
    if cache_s is not None:
        found.append(BASE["Redirect-Max-Cache-Time"].avp(cache_s))
    return found


@pytest.mark.parametrize(
    ("text", "host", "port", "transport"),
    [
        ("aaa://host.example.com;transport=tcp", "host.example.com", None, "tcp"),
        ("aaa://host.example.com:6666;transport=tcp", "host.example.com", 6666, "tcp"),
        ("aaa://host.example.com;protocol=diameter", "host.example.com", None, "tcp"),
        ("aaa://host.example.com:6666;transport=sctp;protocol=diameter", "host.example.com", 6666, "sctp"),
        ("aaas://host.example.com", "host.example.com", None, "tls"),
        ("aaa://host.example.com:6666;Transport=TCP;Protocol=Diameter", "host.example.com", 6666, "tcp"),
        ("aaa://[2001:db8::1]:3868", "2001:db8::1", 3868, "tcp"),
    ],
)
def test_uris(text: str, host: str, port: int | None, transport: str) -> None:
    assert DiameterUri.parse_untrusted(text) == DiameterUri(host, port, transport)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aaa://",
        "http://host",
        "aaa://host:",
        "aaa://host:0",
        "aaa://host:65536",
        "aaa://host:99999999",
        "aaa://host;transport=udp;protocol=radius",
        "aaa://host;transport=udp",
        "aaa://host;protocol=tacacs+",
        "aaas://host;transport=sctp",
        "aaa://user@host",
        "aaa://host/../x",
        "aaa://host\n",
        "aaa://" + "h" * 256,
        "aaa://host" + ";a=b" * 5,
    ],
)
def test_what_is_no_uri_for_us(text: str) -> None:
    with pytest.raises(RemoteDiameterError):
        DiameterUri.parse_untrusted(text)


def test_hosts_keep_their_order_and_odd_ones_are_left_out() -> None:
    answer = redirect(hosts=("aaa://b", "nonsense", "aaa://a:1;transport=sctp"))
    read = read_redirection_untrusted(answer)
    assert read.hosts == (DiameterUri("b"), DiameterUri("a", 1, "sctp"))
    assert (read.usage, read.cache_s, read.agent) == (RedirectUsage.DONT_CACHE, 0, "slf")
    many = read_redirection_untrusted(redirect(hosts=tuple(f"aaa://h{n}" for n in range(50))))
    assert len(many.hosts) == 8


@pytest.mark.parametrize(
    "answer",
    [
        redirect(hosts=()),
        redirect(hosts=("nonsense",)),
        redirect(*usage_avps(7)),
        redirect(*usage_avps(-1)),
        redirect(Avp(261, b"1")),
    ],
)
def test_redirects_that_cannot_be_used(answer: Message) -> None:
    with pytest.raises(RemoteDiameterError):
        read_redirection_untrusted(answer)


# which of these other requests a redirection for request() with user "u" and agent "slf" covers
OTHERS = {
    "same session": (request(realm="other", application_id=1), None, "x"),
    "same user": (request(session="s2", realm="other", application_id=1), "u", "x"),
    "same realm and application": (request(session="s2", realm="REALM"), None, "x"),
    "same realm": (request(session="s2", application_id=1), None, "x"),
    "same application": (request(session="s2", realm="other"), None, "x"),
    "same agent": (request(session="s2", realm="other", application_id=1), None, "SLF"),
    "nothing": (request(session="s2", realm="other", application_id=1), None, "x"),
}
COVERED = {
    RedirectUsage.DONT_CACHE: set(),
    RedirectUsage.ALL_SESSION: {"same session"},
    RedirectUsage.ALL_REALM: {"same realm and application", "same realm"},
    RedirectUsage.REALM_AND_APPLICATION: {"same realm and application"},
    RedirectUsage.ALL_APPLICATION: {"same realm and application", "same application"},
    RedirectUsage.ALL_HOST: {"same agent"},
    RedirectUsage.ALL_USER: {"same user"},
}


@pytest.mark.parametrize("usage", list(RedirectUsage))
def test_usage(usage: RedirectUsage) -> None:
    cache = RedirectCache()
    cache.store(read_redirection_untrusted(redirect(*usage_avps(usage))), request(), "u", now=0.0)
    found = {name for name, (message, user, agent) in OTHERS.items() if cache.find(message, user, agent, now=1.0)}
    assert found == COVERED[usage]


def test_user_name_counts_before_our_own_key() -> None:
    cache = RedirectCache()
    redirection = read_redirection_untrusted(redirect(*usage_avps(RedirectUsage.ALL_USER)))
    cache.store(redirection, request(user_name="private@realm"), "sip:u@realm", now=0.0)
    assert cache.find(request(session="x", user_name="private@realm"), None, "slf", now=1.0)
    assert not cache.find(request(session="x"), "sip:u@realm", "slf", now=1.0)


def test_special_goes_before_general() -> None:
    cache = RedirectCache()
    order = [
        RedirectUsage.ALL_HOST,
        RedirectUsage.ALL_APPLICATION,
        RedirectUsage.ALL_REALM,
        RedirectUsage.REALM_AND_APPLICATION,
        RedirectUsage.ALL_USER,
        RedirectUsage.ALL_SESSION,
    ]
    for usage in order:
        answer = redirect(*usage_avps(usage), hosts=(f"aaa://h{usage.value}",))
        cache.store(read_redirection_untrusted(answer), request(), "u", now=0.0)
        assert cache.find(request(), "u", "slf", now=1.0)[0].host == f"h{usage.value}"


@pytest.mark.parametrize(("cache_s", "end"), [(None, 0.0), (0, 0.0), (60, 60.0), (4_000_000_000, 86_400.0)])
def test_cache_time(cache_s: int | None, end: float) -> None:
    cache = RedirectCache()
    redirection = read_redirection_untrusted(redirect(*usage_avps(RedirectUsage.ALL_REALM, cache_s)))
    cache.store(redirection, request(), None, now=0.0)
    assert bool(cache.find(request(), None, "", now=end - 0.1)) == (end > 0)
    assert not cache.find(request(), None, "", now=end)
    assert len(cache.entries) == 0


def test_hosts_that_fail_are_forgotten() -> None:
    cache = RedirectCache()
    redirection = read_redirection_untrusted(redirect(*usage_avps(RedirectUsage.ALL_APPLICATION)))
    cache.store(redirection, request(), None, now=0.0)
    cache.forget((DiameterUri("other"),))
    assert cache.find(request(), None, "", now=1.0) == redirection.hosts
    cache.forget(redirection.hosts)
    assert cache.find(request(), None, "", now=1.0) == ()


def test_cache_is_bounded() -> None:
    cache = RedirectCache(max_entries=3)
    redirection = read_redirection_untrusted(redirect(*usage_avps(RedirectUsage.ALL_SESSION)))
    for number in range(5):
        cache.store(redirection, request(session=f"s{number}"), None, now=0.0)
    assert len(cache.entries) == 3
    assert not cache.find(request(session="s1"), None, "", now=1.0)


def test_applications_are_kept_apart() -> None:
    cache = RedirectCache()
    redirection = read_redirection_untrusted(redirect(*usage_avps(RedirectUsage.ALL_APPLICATION)))
    cache.store(redirection, request(), None, now=0.0)
    assert not cache.find(request(application_id=CX_APPLICATION.application_id), None, "", now=1.0)
