"""The published schema, the reader's table and the documentation's example say the same."""

import re
from pathlib import Path

import pytest
from lxml import etree

from ims_as.call.service_settings import SETTINGS, CallLimits, Consent, parse_service_settings_untrusted

ROOT = Path(__file__).parents[3]
XSD = ROOT / "ims_as" / "call" / "agent-profile.xsd"
XS = "{http://www.w3.org/2001/XMLSchema}"
SCHEMA = etree.XMLSchema(etree.parse(str(XSD)))


def example() -> bytes:
    match = re.search(r"```xml\n(.*?)```", (ROOT / "docs" / "subscriber-profile.md").read_text(), re.S)
    assert match is not None
    return match[1].encode()


def test_the_published_schema_is_the_one_that_the_server_has():
    assert (ROOT / "docs" / "agent-profile.xsd").read_bytes() == XSD.read_bytes()


def test_the_example_is_valid_and_shows_every_setting():
    document = etree.fromstring(example())
    SCHEMA.assertValid(document)
    for setting in SETTINGS:
        assert document.find("/".join(setting.path)) is not None, setting
    found = parse_service_settings_untrusted(example())
    assert found.limits == CallLimits(2, 600, 20, 100)
    assert found.consent == Consent(recording=False, announce=True)
    assert not found.problems


def test_the_schema_has_every_setting_and_no_other():
    tree = etree.parse(str(XSD))
    groups = {"tAgentProfile": (), "tLimits": ("Limits",), "tConsent": ("Consent",)}
    found = {
        (*prefix, element.get("name"))
        for name, prefix in groups.items()
        for element in tree.iterfind(f"{XS}complexType[@name='{name}']/{XS}all/{XS}element")
    }
    extensions = {(*prefix, "Extension") for prefix in groups.values()}
    assert found - extensions - {("Limits",), ("Consent",)} == {setting.path for setting in SETTINGS}


@pytest.mark.parametrize(
    "inside",
    [
        "<Enabled>perhaps</Enabled>",
        f"<Agent>{'a' * 65}</Agent>",
        "<Language>a b</Language>",
        f"<Greeting>{'a' * 1001}</Greeting>",
        "<Limits><CallSeconds>86401</CallSeconds></Limits>",
        "<Limits><ConcurrentCalls>0</ConcurrentCalls></Limits>",
        "<Queue>mailto:a@b</Queue>",
        "<Consent><Recording>maybe</Recording></Consent>",
    ],
)
def test_the_schema_refuses_what_the_reader_leaves_out(inside: str):
    xml = f"<AgentProfile>{inside}</AgentProfile>".encode()
    assert parse_service_settings_untrusted(xml).problems
    assert not SCHEMA.validate(etree.fromstring(xml))
