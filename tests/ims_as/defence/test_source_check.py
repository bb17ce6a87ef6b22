"""Where requests inside a dialog may come from, when that is asked."""

from __future__ import annotations

import pytest

from ims_as.defence.source_check import comes_from_dialog
from ims_as.sip.dialog import Dialog, DialogId, DialogState
from ims_as.sip.header_types import parse_via


def dialog(*routes: str, target: str = "sip:a@192.0.2.9") -> Dialog:
    return Dialog(
        DialogId("c", "l", "r"),
        local="<sip:l@h>;tag=l",
        remote="<sip:r@h>;tag=r",
        remote_target=target,
        route_set=list(routes),
        local_cseq=1,
        remote_cseq=1,
        is_caller=False,
        state=DialogState.CONFIRMED,
    )


VIA = parse_via("SIP/2.0/UDP scscf.example;branch=z9hG4bK1;received=192.0.2.1")


@pytest.mark.parametrize(
    ("routes", "target", "via", "host", "expected"),
    [
        (("<sip:192.0.2.5;lr>",), "sip:a@192.0.2.9", VIA, "192.0.2.5", True),
        (("<sip:192.0.2.5;lr>",), "sip:a@192.0.2.9", VIA, "192.0.2.1", True),
        (("<sip:192.0.2.5;lr>",), "sip:a@192.0.2.9", VIA, "192.0.2.9", False),
        (("<sip:192.0.2.5;lr>", "<sip:192.0.2.6;lr>"), "sip:a@h", None, "192.0.2.6", False),
        ((), "sip:a@192.0.2.9", VIA, "192.0.2.9", True),
        ((), "sip:a@192.0.2.9", None, "192.0.2.8", False),
        ((), "sip:a@[2001:db8::1]", None, "2001:db8::1", True),
        (("<sip:scscf.example;lr>",), "sip:a@192.0.2.9", VIA, "192.0.2.77", True),  # a name: who knows
        (("<sip:scscf.example;lr>",), "sip:a@192.0.2.9", None, "192.0.2.77", True),
        (("garbage",), "sip:a@192.0.2.9", VIA, "192.0.2.77", True),
        ((), "tel:+49", None, "192.0.2.77", True),
    ],
)
def test_source(routes: tuple[str, ...], target: str, via: object, host: str, expected: bool) -> None:
    assert comes_from_dialog(dialog(*routes, target=target), via, host) is expected  # type: ignore[arg-type]
