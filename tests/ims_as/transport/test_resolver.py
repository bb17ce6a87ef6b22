from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio

from ims_as.sip.flow import Destination
from ims_as.transport.dns_client import NEGATIVE_TTL_S
from ims_as.transport.resolver import MAX_STALE_S, RECHECK_S, NameServers, Resolver, is_ip_address
from tests.support.dns_server import DnsServer, dns_server


def test_what_is_known_at_once() -> None:
    resolver = Resolver({"scscf.Example.": ("127.0.0.20", 5070)})
    assert resolver.known(Destination("UDP", "10.0.0.1")) == ("10.0.0.1", 5060)
    assert resolver.known(Destination("TCP", "::1", 5080)) == ("::1", 5080)
    assert resolver.known(Destination("UDP", "SCSCF.example")) == ("127.0.0.20", 5070)
    assert resolver.known(Destination("UDP", "scscf.example.", 5054)) == ("127.0.0.20", 5054)
    assert resolver.known(Destination("UDP", "other.example")) is None


def test_is_ip_address() -> None:
    assert is_ip_address("10.0.0.1")
    assert is_ip_address("2001:db8::1")
    assert not is_ip_address("10.0.0.1.example")
    assert not is_ip_address("")


def test_system_resolver() -> None:
    found = trio.run(Resolver({}).look_up, Destination("TCP", "localhost"))[0]
    assert found.transport == "TCP"
    assert is_ip_address(found.host)
    assert found.port == 5060


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example", "\udcff"])
def test_names_without_address(name: str) -> None:
    with pytest.raises(OSError):
        trio.run(Resolver({}).look_up, Destination("UDP", name))


# ---------------------------------------------------------------- DNS


ZONE = """
example.net.            60 NAPTR 50 50 "s" "SIP+D2T" "" _sip._tcp.example.net.
example.net.            60 NAPTR 90 50 "s" "SIP+D2U" "" _sip._udp.example.net.
example.net.            60 NAPTR 10 50 "s" "SIPS+D2T" "" _sips._tcp.example.net.
_sip._tcp.example.net.  60 SRV 1 10 5062 a.example.net.
_sip._tcp.example.net.  60 SRV 2 10 5063 b.example.net.
_sip._udp.example.net.  60 SRV 1 10 5064 a.example.net.
a.example.net.          60 A 192.0.2.1
a.example.net.          60 AAAA 2001:db8::1
b.example.net.          60 A 192.0.2.2
srv.example.org.        60 A 192.0.2.9
_sip._udp.srv.example.org. 60 SRV 0 0 5070 b.example.net.
plain.example.org.      60 A 192.0.2.3
plain.example.org.      60 A 192.0.2.4
none.example.org.       60 NAPTR 50 50 "s" "SIP+D2U" "" _sip._udp.none.example.org.
_sip._udp.none.example.org. 60 SRV 0 0 0 .
none.example.org.       60 A 192.0.2.5
"""
HOST = "127.0.74.53"
BOTH = ("UDP", "TCP")


def resolve(destination: Destination, transports: Sequence[str] = BOTH, *, zone: str = ZONE) -> list[str]:
    """Places in order, as text."""

    async def main() -> list[str]:
        async with dns_server(zone, HOST) as server:
            resolver = Resolver({"static.example": ("192.0.2.77", 5077)}, NameServers((server.address,), 0.5))
            try:
                found = await resolver.look_up(destination, transports)
            except OSError as error:
                return [str(error)]
        return [f"{each.transport} {each.host} {each.port}" for each in found]

    return trio.run(main)


def test_naptr_chooses_the_transport() -> None:
    assert resolve(Destination("UDP", "example.net", any_transport=True)) == [
        "TCP 192.0.2.1 5062",
        "TCP 2001:db8::1 5062",
        "TCP 192.0.2.2 5063",
        "UDP 192.0.2.1 5064",
        "UDP 2001:db8::1 5064",
    ]


def test_naptr_of_a_transport_that_we_do_not_speak_is_left_out() -> None:
    found = resolve(Destination("UDP", "example.net", any_transport=True), ("UDP",))
    assert found == ["UDP 192.0.2.1 5064", "UDP 2001:db8::1 5064"]
    with_tls = resolve(Destination("UDP", "example.net", any_transport=True), ("TLS", "UDP"))
    assert with_tls[-1] == "UDP 2001:db8::1 5064"


def test_a_transport_in_the_uri_is_not_chosen_again() -> None:
    assert resolve(Destination("UDP", "example.net")) == ["UDP 192.0.2.1 5064", "UDP 2001:db8::1 5064"]


def test_a_port_in_the_uri_is_not_looked_up() -> None:
    assert resolve(Destination("UDP", "a.example.net", 5099)) == ["UDP 192.0.2.1 5099", "UDP 2001:db8::1 5099"]
    assert resolve(Destination("TCP", "srv.example.org", 5060)) == ["TCP 192.0.2.9 5060"]


def test_srv_without_naptr() -> None:
    assert resolve(Destination("UDP", "srv.example.org", any_transport=True)) == ["UDP 192.0.2.2 5070"]


def test_addresses_without_srv() -> None:
    assert sorted(resolve(Destination("TCP", "plain.example.org"))) == ["TCP 192.0.2.3 5060", "TCP 192.0.2.4 5060"]


def test_a_service_that_is_said_not_to_be_there() -> None:
    (error,) = resolve(Destination("UDP", "none.example.org", any_transport=True))
    assert "no such service" in error


def test_a_static_name_as_srv_target() -> None:
    zone = "_sip._udp.s.example. 60 SRV 1 1 5088 static.example."
    assert resolve(Destination("UDP", "s.example"), zone=zone) == ["UDP 192.0.2.77 5088"]


def test_answers_are_kept_even_those_that_say_no() -> None:
    async def main() -> list[int]:
        async with dns_server(ZONE, HOST) as server:
            resolver = Resolver({}, NameServers((server.address,), 0.5))
            counts = []
            for _ in range(2):
                await resolver.look_up(Destination("UDP", "srv.example.org", any_transport=True), BOTH)
                counts.append(len(server.questions))
        return counts

    first, second = trio.run(main)
    assert first == second == 5  # NAPTR (none), SRV over UDP, SRV over TCP (none), A and AAAA (none)


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    async def main() -> float:
        async with dns_server(ZONE, HOST) as server:
            server.is_silent = True
            resolver = Resolver({}, NameServers((server.address,), 0.2))
            began = trio.current_time()
            with pytest.raises(OSError):
                await resolver.look_up(Destination("UDP", "nobody.invalid", 5060))
            return trio.current_time() - began

    assert trio.run(main) < 3.0


def test_garbage_from_the_server_is_as_no_answer() -> None:
    async def main() -> None:
        async with dns_server(ZONE, HOST) as server:
            server.garbage = b"\x12"
            resolver = Resolver({}, NameServers((server.address,), 0.2))
            with pytest.raises(OSError):
                await resolver.look_up(Destination("UDP", "nobody.invalid", 5060))

    trio.run(main)


# ---------------------------------------------------------------- what is kept, and a silent DNS

WEIGHTED = """
_sip._udp.w.example. {ttl} SRV 1 30 5060 a.w.example.
_sip._udp.w.example. {ttl} SRV 1 70 5061 b.w.example.
a.w.example. {ttl} A 192.0.2.1
b.w.example. {ttl} A 192.0.2.2
"""
W = Destination("UDP", "w.example")


def with_server(
    zone: str, test: Callable[[DnsServer, Resolver], Awaitable[None]], *, cache: int = 2048, **options: object
) -> None:
    async def main() -> None:
        async with dns_server(zone, HOST) as server:
            resolver = Resolver({}, NameServers((server.address,), 0.2, cache), **options)  # type: ignore[arg-type]
            await test(server, resolver)

    trio.run(main, clock=SteppedClock())


class SteppedClock(trio.abc.Clock):
    """Runs as ever, and can be put forward."""

    def __init__(self) -> None:
        self.offset = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return time.monotonic() + self.offset

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()


def put_forward(seconds: float) -> None:
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, SteppedClock)
    clock.offset += seconds


def test_weights_hold_for_what_is_kept() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        assert resolver.kept(W) == ()
        await resolver.look_up(W)
        asked = len(server.questions)
        firsts = Counter(resolver.kept(W)[0].host for _ in range(1000))
        assert len(server.questions) == asked
        assert 220 < firsts["192.0.2.1"] < 380
        assert {each.domain for each in resolver.kept(W)} == {"w.example"}

    with_server(WEIGHTED.format(ttl=60), test, dice=random.Random(1).random)


def test_time_to_live_is_the_shortest() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        await resolver.look_up(W)
        put_forward(18)
        assert resolver.kept(W)
        put_forward(3)
        assert not resolver.kept(W)

    zone = WEIGHTED.format(ttl=600).replace("b.w.example. 600 A", "b.w.example. 20 A")
    with_server(zone, test, families=("A",))


def test_time_to_live_of_nothing_is_short() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        for _ in range(3):
            with pytest.raises(OSError, match="no address"):
                await resolver.look_up(Destination("UDP", "nobody.example", 5060))
        asked = len(server.questions)
        assert asked == 1  # the name does not exist: there is no use in asking for AAAA
        put_forward(NEGATIVE_TTL_S + 1)
        with pytest.raises(OSError, match="no address"):
            await resolver.look_up(Destination("UDP", "nobody.example", 5060))

    with_server("x.example. 60 A 192.0.2.1", test)


def test_a_silent_dns_does_not_stop_calls() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        await resolver.look_up(W)
        server.is_silent = True
        put_forward(61)
        assert not resolver.kept(W)
        places = {place.host for place in await resolver.look_up(W)}
        assert places == {"192.0.2.1", "192.0.2.2"}
        # now that it is known to be silent, nobody waits for it
        assert {place.host for place in resolver.kept(W)} == places
        with pytest.raises(OSError, match="no answer"):
            await resolver.look_up(Destination("UDP", "unknown.example"))
        # it is asked again after a while, and when it speaks, that counts
        put_forward(RECHECK_S + 1)
        assert not resolver.kept(W)
        server.is_silent = False
        await resolver.look_up(W)
        assert resolver.kept(W)

    with_server(WEIGHTED.format(ttl=60), test, cache=2)


def test_what_is_too_old_is_not_used() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        await resolver.look_up(W)
        server.is_silent = True
        put_forward(MAX_STALE_S + 61)
        with pytest.raises(OSError, match="no answer"):
            await resolver.look_up(W)
        assert not resolver.kept(W)

    with_server(WEIGHTED.format(ttl=60), test, cache=2)


def test_a_name_that_is_gone_is_not_used_any_more() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        await resolver.look_up(W)
        server.forget()
        put_forward(61)
        with pytest.raises(OSError, match="no address"):
            await resolver.look_up(W)
        server.is_silent = True
        with pytest.raises(OSError):
            await resolver.look_up(W)

    with_server(WEIGHTED.format(ttl=60), test, cache=1)


def test_number_of_what_is_kept_is_bounded() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        for number in range(10):
            await resolver.look_up(Destination("UDP", f"h{number}.example", 5060))
        kept = [number for number in range(10) if resolver.kept(Destination("UDP", f"h{number}.example", 5060))]
        assert kept == [7, 8, 9]

    with_server("".join(f"h{number}.example. 60 A 192.0.2.{number}\n" for number in range(10)), test, cache=3)


def test_nothing_is_kept_where_that_is_not_wanted() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        await resolver.look_up(W)
        asked = len(server.questions)
        assert not resolver.kept(W)
        await resolver.look_up(W)
        assert len(server.questions) == 2 * asked

    with_server(WEIGHTED.format(ttl=60), test, cache=0)


def test_only_addresses_that_we_can_send_from_are_asked_for() -> None:
    async def test(server: DnsServer, resolver: Resolver) -> None:
        found = await resolver.look_up(Destination("UDP", "a.example.net", 5060))
        assert [place.host for place in found] == ["2001:db8::1"]
        assert server.questions == [("a.example.net.", "AAAA")]

    with_server(ZONE, test, families=("AAAA",))


def test_sips_is_nothing_but_tls() -> None:
    zone = (
        ZONE
        + """
_sips._tcp.example.net. 60 SRV 1 1 5066 a.example.net.
_sips._tcp.srv.example.org. 60 SRV 1 1 5067 a.example.net.
"""
    )
    transports = ("UDP", "TCP", "TLS")
    places = ["TLS 192.0.2.1 5066", "TLS 2001:db8::1 5066"]
    assert resolve(Destination("TLS", "example.net", any_transport=True, is_sips=True), transports, zone=zone) == places
    places = ["TLS 192.0.2.1 5067", "TLS 2001:db8::1 5067"]
    found = resolve(Destination("TLS", "srv.example.org", any_transport=True, is_sips=True), transports, zone=zone)
    assert found == places
    # what has no record of it is asked at the port of TLS
    found = resolve(Destination("TLS", "plain.example.org", any_transport=True, is_sips=True), transports, zone=zone)
    assert sorted(found) == ["TLS 192.0.2.3 5061", "TLS 192.0.2.4 5061"]


def test_preference_where_the_domain_has_none() -> None:
    zone = "".join(f"_sip._{kind}.p.example. 60 SRV 1 1 5060 h.p.example.\n" for kind in ("udp", "tcp"))
    zone += "h.p.example. 60 A 192.0.2.1"
    p = Destination("UDP", "p.example", any_transport=True)
    assert resolve(p, ("TCP", "UDP"), zone=zone) == ["TCP 192.0.2.1 5060", "UDP 192.0.2.1 5060"]
    assert resolve(p, ("UDP", "TCP", "TLS"), zone=zone) == ["UDP 192.0.2.1 5060", "TCP 192.0.2.1 5060"]
