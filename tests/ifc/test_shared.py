from __future__ import annotations

import pytest

from ifc.engine import evaluate
from ifc.errors import IfcError
from ifc.model import (
    ApplicationServer,
    InitialFilterCriteria,
    MethodCondition,
    ServicePointTrigger,
    ServiceProfile,
    TriggerPoint,
)
from ifc.parser import parse_shared_sets_untrusted, parse_subscription_untrusted
from ifc.shared import resolve_shared_sets
from ifc.view import PlainRequestView

INVITE = PlainRequestView("INVITE", "sip:bob@example.net")


def criterion(priority: int, server: str, method: str = "INVITE") -> InitialFilterCriteria:
    point = TriggerPoint(True, (ServicePointTrigger(MethodCondition(method)),))
    return InitialFilterCriteria(priority, point, ApplicationServer(f"sip:{server}"))


def xml(priority: int, server: str) -> str:
    return (
        f"<InitialFilterCriteria><Priority>{priority}</Priority>"
        f"<ApplicationServer><ServerName>sip:{server}</ServerName></ApplicationServer></InitialFilterCriteria>"
    )


def test_sets_count_beside_the_profile_in_priority_order() -> None:
    profile = ServiceProfile((), (criterion(5, "own"), criterion(9, "last")), (7, 8, 7))
    table = {7: (criterion(1, "first"), criterion(6, "middle")), 8: (criterion(2, "register", "REGISTER"),), 9: ()}
    resolved = resolve_shared_sets(profile, table)
    assert not resolved.unknown_set_ids
    assert not resolved.colliding_priorities
    visited = [match.criterion.application_server.server_name for match in evaluate(resolved.criteria, INVITE)]
    assert visited == ["sip:first", "sip:own", "sip:middle", "sip:last"]


def test_unknown_sets_and_colliding_priorities_are_told() -> None:
    profile = ServiceProfile((), (criterion(5, "own"),), (3, 7, 4))
    resolved = resolve_shared_sets(profile, {7: (criterion(5, "shared"),)})
    assert resolved.unknown_set_ids == (3, 4)
    assert resolved.colliding_priorities == (5,)
    assert [each.application_server.server_name for each in resolved.criteria] == ["sip:own", "sip:shared"]


def test_the_table_is_read_set_by_set() -> None:
    table = (
        f"<SharedIFCsSets><SharedIFCsSet><SetID>7</SetID>{xml(2, 'b')}{xml(1, 'a')}</SharedIFCsSet>"
        f"<SharedIFCsSet><SetID>8</SetID></SharedIFCsSet>"
        f"<SharedIFCsSet><SetID>7</SetID>{xml(3, 'c')}</SharedIFCsSet>"
        f"<SharedIFCsSet>{xml(3, 'd')}</SharedIFCsSet>"
        f"<SharedIFCsSet><SetID>9</SetID>{xml(-1, 'e')}</SharedIFCsSet></SharedIFCsSets>"
    )
    parsed = parse_shared_sets_untrusted(table.encode())
    assert {number: [each.priority for each in criteria] for number, criteria in parsed.sets.items()} == {
        7: [1, 2],
        8: [],
        9: [],
    }
    assert [str(problem).partition(": ")[2] for problem in parsed.problems] == [
        "SetID 7 is used again (left out)",
        "SharedIFCsSet without SetID (left out)",
        "Priority is '-1', not a number from 0 (left out)",
    ]


@pytest.mark.parametrize(
    "document", [b"", b"<IFCs/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><SharedIFCsSets>&b;</SharedIFCsSets>"]
)
def test_what_is_no_table(document: bytes) -> None:
    with pytest.raises(IfcError):
        parse_shared_sets_untrusted(document)


def test_too_many_sets() -> None:
    with pytest.raises(IfcError, match="shared sets"):
        parse_shared_sets_untrusted(b"<SharedIFCsSets>" + b"<SharedIFCsSet/>" * 1001 + b"</SharedIFCsSets>")


def test_a_subscription_with_sets() -> None:
    subscription = (
        f"<IMSSubscription><PrivateID>a@b</PrivateID><ServiceProfile>{xml(2, 'own')}"
        "<Extension><SharedIFCSetID>7</SharedIFCSetID><SharedIFCSetID>1</SharedIFCSetID></Extension>"
        "</ServiceProfile></IMSSubscription>"
    )
    (profile,) = parse_subscription_untrusted(subscription.encode()).subscription.service_profiles
    resolved = resolve_shared_sets(profile, {7: (criterion(1, "shared"),)})
    assert [each.priority for each in resolved.criteria] == [1, 2]
    assert resolved.unknown_set_ids == (1,)
