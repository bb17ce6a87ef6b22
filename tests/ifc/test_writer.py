from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from lxml import etree

from ifc.model import ApplicationServer, ImsSubscription, InitialFilterCriteria
from ifc.parser import parse_criteria_untrusted, parse_subscription_untrusted
from ifc.writer import write_criteria, write_service_profile, write_subscription
from tests.ifc.strategies import CRITERIA_LISTS, SUBSCRIPTIONS

SCHEMA = etree.XMLSchema(etree.parse(Path(__file__).parents[1] / "vectors" / "ifc" / "subscription.xsd"))
"""After the tables of TS 29.228 Annex E (Release 18)."""
XML = (Path(__file__).parents[1] / "vectors" / "ifc" / "subscription.xml").read_bytes()

ORDER = {
    "IMSSubscription": ["PrivateID", "ServiceProfile"],
    "ServiceProfile": ["PublicIdentity", "CoreNetworkServicesAuthorization", "InitialFilterCriteria", "Extension"],
    "PublicIdentity": ["BarringIndication", "Identity", "Extension"],
    "InitialFilterCriteria": ["Priority", "TriggerPoint", "ApplicationServer", "ProfilePartIndicator"],
    "TriggerPoint": ["ConditionTypeCNF", "SPT"],
    "SPT": [
        "ConditionNegated", "Group", "RequestURI", "Method", "SIPHeader", "SessionCase", "SessionDescription",
        "Extension",
    ],
    "SIPHeader": ["Header", "Content"],
    "SessionDescription": ["Line", "Content"],
    "ApplicationServer": ["ServerName", "DefaultHandling", "ServiceInfo", "Extension"],
    "IFCs": ["InitialFilterCriteria"],
}  # fmt: skip
"""The sequences of the schema, TS 29.228 Annex E; Extension is told apart by where it stands."""


def assert_schema_order(xml: bytes) -> None:
    for element in etree.fromstring(xml).iter():
        names = [child.tag for child in element]
        if element.tag in ORDER:
            positions = [ORDER[element.tag].index(name) for name in names]
            assert positions == sorted(positions), (element.tag, names)
        else:
            assert names.count("Extension") == 0 or names[-1] == "Extension"


def canonical(xml: bytes) -> bytes:
    tree = etree.fromstring(xml, etree.XMLParser(remove_blank_text=True))
    return etree.tostring(tree, method="c14n")


def test_known_document_comes_back() -> None:
    # written: criteria in priority order, and ConditionNegated where the schema's default was relied on
    written = write_subscription(parse_subscription_untrusted(XML).subscription)
    assert_schema_order(written)
    expected = etree.fromstring(XML, etree.XMLParser(remove_blank_text=True))
    profile = expected[1]
    profile.insert(6, profile[3])
    negated = etree.Element("ConditionNegated")
    negated.text = "0"
    profile[3][1][4].insert(0, negated)
    assert canonical(written) == etree.tostring(expected, method="c14n")


def test_service_profile_alone() -> None:
    (profile,) = parse_subscription_untrusted(XML).subscription.service_profiles
    assert parse_criteria_untrusted(write_service_profile(profile)).criteria == profile.criteria


def test_text_that_xml_cannot_hold() -> None:
    criterion = InitialFilterCriteria(0, None, ApplicationServer("sip:a", service_info="\x01"))
    with pytest.raises(ValueError, match="XML"):
        write_criteria([criterion])


@settings(max_examples=150, deadline=None)
@given(CRITERIA_LISTS)
def test_criteria_round_trip(criteria: tuple[InitialFilterCriteria, ...]) -> None:
    written = write_criteria(criteria)
    assert_schema_order(written)
    parsed = parse_criteria_untrusted(written)
    assert parsed.criteria == criteria
    assert not any(problem.is_skipped for problem in parsed.problems)


@settings(max_examples=100, deadline=None)
@given(SUBSCRIPTIONS)
def test_subscription_round_trip(subscription: ImsSubscription) -> None:
    written = write_subscription(subscription)
    assert_schema_order(written)
    assert parse_subscription_untrusted(written).subscription == subscription


@settings(max_examples=150, deadline=None)
@given(SUBSCRIPTIONS)
def test_what_is_written_is_valid(subscription: ImsSubscription) -> None:
    root = etree.fromstring(write_subscription(subscription))
    for element in root.iter("ServerName", "WildcardedPSI", "WildcardedIMPU"):
        element.text = "sip:x"  # anyURI does not know the brackets of IPv6 in SIP URIs, nor the wildcards of identities
    SCHEMA.assertValid(root)
