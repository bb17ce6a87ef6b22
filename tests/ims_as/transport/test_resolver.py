from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from ims_as.sip.flow import Destination
from ims_as.transport.resolver import NameServers, Resolver, is_ip_address
from tests.support.dns_server import dns_server


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
