from __future__ import annotations

import pytest

from ims_as.isc.session_case import SessionCase, session_case_by_address, session_case_by_header
from ims_as.sip.header_types import PServedUser


@pytest.mark.parametrize(
    ("params", "case"),
    [
        (";sescase=orig;regstate=reg", SessionCase.ORIGINATING_REGISTERED),
        (";sescase=orig;regstate=unreg", SessionCase.ORIGINATING_UNREGISTERED),
        (";sescase=term;regstate=reg", SessionCase.TERMINATING_REGISTERED),
        (";SESCASE=Term;RegState=UNREG", SessionCase.TERMINATING_UNREGISTERED),
        (";sescase=term", SessionCase.TERMINATING_REGISTERED),
        (";orig-cdiv", SessionCase.ORIGINATING_CDIV),
        (";orig-cdiv;regstate=unreg", SessionCase.ORIGINATING_CDIV),
        (";regstate=reg", None),
        (";sescase=other", None),
        ("", None),
    ],
)
def test_by_header(params: str, case: SessionCase | None) -> None:
    assert session_case_by_header(PServedUser.parse(f"<sip:bob@example.net>{params}")) is case


@pytest.mark.parametrize(
    ("own", "case"),
    [
        ("<sip:orig@127.0.0.30;lr>", SessionCase.ORIGINATING_REGISTERED),
        ("<sip:Term@127.0.0.30:5060;lr>", SessionCase.TERMINATING_REGISTERED),
        ("sip:orig@127.0.0.30", SessionCase.ORIGINATING_REGISTERED),
        ("<sip:127.0.0.30;lr;orig>", SessionCase.ORIGINATING_REGISTERED),
        ("<sip:term@127.0.0.30;lr;orig>", SessionCase.TERMINATING_REGISTERED),
        ("<sip:127.0.0.30;lr>", None),
        ("<tel:+1555>", None),
        ("<<>>", None),
        (None, None),
    ],
)
def test_by_address(own: str | None, case: SessionCase | None) -> None:
    assert session_case_by_address(own) is case
