from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.transport.address import TRANSPORTS, ListenAddress


@given(st.sampled_from(TRANSPORTS), st.ip_addresses().map(str), st.integers(0, 65535))
def test_round_trip(transport: str, host: str, port: int) -> None:
    address = ListenAddress(transport, host, port)
    assert ListenAddress.parse(str(address)) == address


def test_ipv6_is_written_in_brackets() -> None:
    assert ListenAddress.parse("tls:[2001:db8::1]:5061") == ListenAddress("tls", "2001:db8::1", 5061)
    assert str(ListenAddress("udp", "::1", 5060)) == "udp:[::1]:5060"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "udp",
        "udp:",
        "udp:127.0.0.1",
        "udp:127.0.0.1:",
        "udp:127.0.0.1:65536",
        "udp:127.0.0.1:-1",
        "udp:127.0.0.1:5060 ",
        "udp:127.0.0.1:٣",
        "UDP:127.0.0.1:5060",
        "sctp:127.0.0.1:5060",
        "udp:localhost:5060",
        "udp:[::1:5060",
        "udp:[127.0.0.1]:5060",
        "udp:::1:5060",
        "udp:[::1]",
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ListenAddress.parse(text)
