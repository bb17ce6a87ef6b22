"""The failure table, row by row."""

import pytest

from ifc.model import DefaultHandling
from ims_as.call.failure import FailureAction, choose_failure_action, reason_header
from ims_as.config import OnFailure

CONTINUED, TERMINATED = DefaultHandling.SESSION_CONTINUED, DefaultHandling.SESSION_TERMINATED


@pytest.mark.parametrize(
    ("on_failure", "handling", "has_route", "action"),
    [
        (OnFailure.IFC, CONTINUED, True, FailureAction.RESPOND),
        (OnFailure.IFC, None, True, FailureAction.RESPOND),
        (OnFailure.IFC, TERMINATED, True, FailureAction.PASS_ON),
        (OnFailure.IFC, TERMINATED, False, FailureAction.RESPOND),
        (OnFailure.RESPOND_503, TERMINATED, True, FailureAction.RESPOND),
        (OnFailure.PASS_ON, CONTINUED, True, FailureAction.PASS_ON),
        (OnFailure.PASS_ON, None, False, FailureAction.RESPOND),
    ],
)
def test_table(on_failure: OnFailure, handling: DefaultHandling | None, has_route: bool, action: FailureAction):
    assert choose_failure_action(on_failure, handling, has_route=has_route) is action


def test_reason_is_q850_and_stays_one_line():
    name, value = reason_header("engine_refused", 'it said "no"\r\nX-Evil: 1\\')
    assert name == "Reason"
    assert value.startswith("Q.850;cause=27;text=")
    assert "\r" not in value
    assert "\n" not in value
    assert value.count('"') == 2
