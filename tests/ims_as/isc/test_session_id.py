"""Session-ID."""

from __future__ import annotations

import uuid

import pytest

from ims_as.isc.session_id import _NAMESPACE, NIL, SessionEnd, SessionId, name_based_id, read_session_id_untrusted
from tests.ims_as.isc_messages import build_request

A, B, C = "a" * 32, "b" * 32, "c" * 32


def message(text: str):
    return build_request(headers=[("Session-ID", text)])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{A};remote={B}", SessionId(A, B)),
        (f"{A.upper()} ; Remote = {B}", SessionId(A, B)),
        (f"{A};x=y;remote={NIL}", SessionId(A, NIL)),
        (A, SessionId(A, None)),
        (f"{A};remote=1", None),
        ("abc", None),
        ("", None),
        ("g" * 32, None),
        (A + ";x" * 200, None),
    ],
)
def test_reading(text: str, found: SessionId | None):
    assert read_session_id_untrusted(message(text)) == found


def test_our_end_follows_the_peer():
    end = SessionEnd(C)
    assert str(end) == f"{C};remote={NIL}"
    end.receive(message(f"{A};remote={NIL}"))
    assert str(end) == f"{C};remote={A}"
    end.receive(build_request())
    end.receive(message("nonsense"))
    end.receive(message(f"{NIL};remote={C}"))
    assert str(end) == f"{C};remote={A}"
    end.receive(message(f"{B};remote={C}"))
    assert str(end) == f"{C};remote={B}", "the peer was exchanged"


def test_the_older_form_is_given_back():
    end = SessionEnd(C)
    end.receive(message(A))
    assert str(end) == A
    assert str(SessionId(A, None)) == A


def test_a_made_id_is_a_uuid_and_the_same_each_time():
    made = name_based_id("host", "call-1", "tag")
    assert made == name_based_id("host", "call-1", "tag") != name_based_id("host", "call-2", "tag")
    assert read_session_id_untrusted(message(f"{made};remote={NIL}")) is not None
    assert made[12] == "5"
    assert made == uuid.uuid5(_NAMESPACE, "host\ncall-1\ntag").hex
    assert name_based_id("call\udcff") != name_based_id("call\udcfe")
