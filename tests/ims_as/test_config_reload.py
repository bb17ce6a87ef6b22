"""A configuration read again: what can be applied, what waits for a restart."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ims_as.config import Config, Secret, parse_config
from ims_as.config_reload import RESTART_KEYS, merge_configs
from ims_as.config_schema import to_plain
from ims_as.config_sip import TlsConfig

BASE = """
identity: sip:as.example.net
sip: {listen: ["udp:127.0.0.9:5060"], trusted_peers: ["10.0.0.0/8"]}
agents:
  a: {engines: [{url: "ws://127.0.0.1:9000/"}]}
  b: {engines: [{url: "ws://127.0.0.1:9001/"}]}
routing: [{agent: a}]
"""


def read(text: str = BASE, *overrides: str) -> Config:
    return parse_config(text, overrides=overrides, environ={})[0]


def test_nothing_has_changed() -> None:
    change = merge_configs(read(), read())
    assert change.config == read()
    assert (change.applied, change.needs_restart) == ((), ())


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("limits.calls=5", "limits.calls"),
        ('sip.trusted_peers=["192.0.2.0/24"]', "sip.trusted_peers"),
        ("sip.on_failure=pass-on", "sip.on_failure"),
        ("sip.hosts={x: '192.0.2.1:5060'}", "sip.hosts.x"),
        ("agents.a.greeting=hello", "agents.a.greeting"),
        ('agents.c={engines: [{url: "ws://127.0.0.1:1/"}]}', "agents.c"),
        ("agents.b.transfer.queue=sip:q@h", "agents.b.transfer.queue"),
        ("routing=[{agent: b}]", "routing"),
        ("policy.local_prefix='+49'", "policy.local_prefix"),
        ("policy.limits.per_agent_at_once=3", "policy.limits.per_agent_at_once"),
        ("log.level=error", "log.level"),
    ],
)
def test_what_applies_at_once(override: str, key: str) -> None:
    new = read(BASE, override)
    change = merge_configs(read(), new)
    assert change.applied == (key,)
    assert change.needs_restart == ()
    assert change.config == new


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("identity=sip:other.example.net", "identity"),
        ('sip.listen=["tcp:127.0.0.9:5060"]', "sip.listen"),
        ("sip.advertise=192.0.2.1", "sip.advertise"),
        ("sip.reg_event=true", "sip.reg_event"),
        ("diameter.sh.budget_ms=77", "diameter.sh.budget_ms"),
        ("media.ports=20000-20099", "media.ports"),
        ("media.workers=2", "media.workers"),
        ("api.listen=127.0.0.1:1", "api.listen"),
        ("cdr.rotate_after_s=7", "cdr.rotate_after_s"),
        ("log.format=console", "log.format"),
    ],
)
def test_what_waits_keeps_its_value(override: str, key: str) -> None:
    change = merge_configs(read(), read(BASE, override, "limits.calls=5"))
    assert change.needs_restart == (key,)
    assert change.applied == ("limits.calls",)
    assert change.config == read(BASE, "limits.calls=5")


def test_every_restart_key_is_a_key() -> None:
    plain = to_plain(Config())
    for key in RESTART_KEYS:
        here = plain
        for part in key.split("."):
            assert part in here, key
            here = here[part]


def test_an_agent_that_is_gone() -> None:
    change = merge_configs(read(), attrs.evolve(read(), agents={"a": read().agents["a"]}))
    assert change.applied == ("agents.b",)
    assert set(change.config.agents) == {"a"}


def test_secrets_are_compared_and_never_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old-pass")
    override = f"api.token={{file: {tmp_path}/token}}"
    old = read(BASE, override)
    (tmp_path / "token").write_text("new-pass")
    change = merge_configs(old, read(BASE, override))
    assert change.needs_restart == ("api.token",)
    assert "-pass" not in repr(change)
    assert change.config.api.token is not None
    assert change.config.api.token.value == "old-pass"


def test_tls_files_are_not_a_difference_but_their_names_are() -> None:
    def config(name: str, key: str) -> Config:
        tls = TlsConfig(Path("certificate.pem"), key=Secret("file", name, key))
        return attrs.evolve(read(), sip=attrs.evolve(read().sip, tls=tls))

    assert merge_configs(config("key.pem", "x"), config("key.pem", "y")).needs_restart == ()
    assert merge_configs(config("key.pem", "x"), config("other.pem", "x")).needs_restart == ("sip.tls.key",)
