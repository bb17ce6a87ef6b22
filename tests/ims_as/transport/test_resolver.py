from __future__ import annotations

import pytest
import trio

from ims_as.sip.flow import Destination
from ims_as.transport.resolver import Resolver, is_ip_address


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
    found = trio.run(Resolver({}).look_up, Destination("TCP", "localhost"))
    assert found.transport == "TCP"
    assert is_ip_address(found.host)
    assert found.port == 5060


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example", "\udcff"])
def test_names_without_address(name: str) -> None:
    with pytest.raises(OSError):
        trio.run(Resolver({}).look_up, Destination("UDP", name))
