"""The error types of SIP and SDP."""

from ims_as.sip.errors import LocalProtocolError, NoCommonCodecError, SdpError, SipError, SipParseError
from ims_as.sip.message import Request


def test_parse_error_carries_what_an_answer_needs():
    request = Request("OPTIONS", "sip:h")
    error = SipParseError("too odd", 513, request, fatal=True)
    assert (error.reason, error.status_hint, error.partial, error.fatal) == ("too odd", 513, request, True)
    assert str(error) == "too odd"
    plain = SipParseError("x")
    assert (plain.status_hint, plain.partial, plain.fatal) == (400, None, False)


def test_one_root_and_separate_blame():
    for kind in (SipParseError, LocalProtocolError, SdpError, NoCommonCodecError):
        assert issubclass(kind, SipError)
    assert issubclass(NoCommonCodecError, SdpError)
    assert not issubclass(LocalProtocolError, (SipParseError, SdpError))
