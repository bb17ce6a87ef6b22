"""What is never diverted to an agent."""

import pytest

from ims_as.call.passthrough import exempt_reason
from ims_as.sip.message import Request


def invite(uri: str = "sip:bob@x", *headers: tuple[str, str]) -> Request:
    return Request("INVITE", uri, list(headers))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (invite(), None),
        (invite("urn:service:sos"), "emergency"),
        (invite("URN:service:SOS.fire"), "emergency"),
        (invite("urn:service:sosi"), None),
        (invite("sip:bob@x", ("Priority", "psap-callback")), "priority"),
        (invite("sip:bob@x", ("Priority", "normal")), None),
        (invite("sip:bob@x", ("Resource-Priority", "ets.0")), "resource-priority"),
        (invite("sip:bob@x", ("Resource-Priority", "what.0, wps.1")), "resource-priority"),
        (invite("sip:bob@x", ("Resource-Priority", "what.0")), None),
        (invite("sip:bob@x", ("P-Asserted-Identity", "<sip:+1@x;cpc=emergency>")), "calling party category"),
        (invite("sip:bob@x", ("P-Asserted-Identity", "<sip:+1@x;cpc=ordinary>")), None),
    ],
)
def test_table(request_: Request, reason: str | None):
    assert exempt_reason(request_) == reason
