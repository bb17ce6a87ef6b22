from __future__ import annotations

import attrs
import pytest

from ifc.errors import EreError
from ifc.model import (
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SipHeaderCondition,
    TriggerPoint,
)


def test_patterns_are_compiled_when_built() -> None:
    condition = SipHeaderCondition("^Priority$", "^emergency$")
    assert condition.header.ignore_case
    assert condition.content is not None
    assert not condition.content.ignore_case
    with pytest.raises(EreError):
        RequestUriCondition("(")


def test_cheap_groups_are_tested_first() -> None:
    header = ServicePointTrigger(SipHeaderCondition("X"), (0, 1))
    method = ServicePointTrigger(MethodCondition("INVITE"), (1, 2))
    assert TriggerPoint(True, (header, method)).groups == ((2, (method,)), (0, (header,)), (1, (method, header)))


def test_values_are_immutable() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        MethodCondition("INVITE").method = "BYE"  # type: ignore[misc]


def test_session_case_direction() -> None:
    assert [case for case in SessionCase if case.is_originating] == [
        SessionCase.ORIGINATING_REGISTERED,
        SessionCase.ORIGINATING_UNREGISTERED,
        SessionCase.ORIGINATING_CDIV,
    ]
