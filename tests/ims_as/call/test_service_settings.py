"""The repository data, read tolerantly: whatever comes is settings, and what is wrong costs one of them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.service_settings import (
    DOCUMENT,
    MAX_SETTINGS_BYTES,
    SETTINGS,
    CallLimits,
    Consent,
    ServiceSettings,
    parse_service_settings_untrusted,
)

FULL = b"""<?xml version="1.0"?>
<AgentProfile>
  <Enabled>true</Enabled><Agent>reception</Agent><Language>pt-BR</Language><Greeting>Ol\xc3\xa1</Greeting>
  <Limits>
    <ConcurrentCalls>2</ConcurrentCalls><CallSeconds>600</CallSeconds>
    <CallsPerHour>20</CallsPerHour><CallsPerDay>50</CallsPerDay>
  </Limits>
  <Queue>sip:desk@ims.example.net</Queue>
  <Consent><Recording>false</Recording><Announce>true</Announce></Consent>
</AgentProfile>"""


def settings(inside: str) -> ServiceSettings:
    return parse_service_settings_untrusted(f"<AgentProfile>{inside}</AgentProfile>".encode())


def test_everything():
    assert parse_service_settings_untrusted(FULL) == ServiceSettings(
        agent="reception",
        language="pt-BR",
        greeting="Olá",
        limits=CallLimits(2, 600, 20, 50),
        queue="sip:desk@ims.example.net",
        consent=Consent(recording=False, announce=True),
    )


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (b"<AgentProfile/>", ServiceSettings()),
        (b"<AgentProfile><Enabled> 0 </Enabled></AgentProfile>", ServiceSettings(enabled=False)),
        (b"<AgentProfile><Enabled>No</Enabled><Agent/></AgentProfile>", ServiceSettings(enabled=False)),
        (
            b'<p:AgentProfile xmlns:p="urn:x"><p:Agent>night</p:Agent><p:Language>de</p:Language></p:AgentProfile>',
            ServiceSettings(agent="night", language="de"),
        ),
        (b"<Wrapped><AgentProfile><Agent>a</Agent></AgentProfile></Wrapped>", ServiceSettings(agent="a")),
        (b"<AgentProfile><New>1</New><Agent>a<!-- c --></Agent><?p?></AgentProfile>", ServiceSettings(agent="a")),
        (b"<AgentProfile><Agent>a</Agent><Agent>b</Agent></AgentProfile>", ServiceSettings(agent="a")),
        # elsewhere the same names mean something else
        (b"<AgentProfile><Extension><Agent>x</Agent></Extension></AgentProfile>", ServiceSettings()),
        (b"<AgentProfile><CallSeconds>9</CallSeconds></AgentProfile>", ServiceSettings()),
    ],
)
def test_tolerance(xml: bytes, expected: ServiceSettings):
    assert parse_service_settings_untrusted(xml) == expected


@pytest.mark.parametrize(
    ("inside", "element"),
    [
        ("<Enabled>perhaps</Enabled>", "Enabled"),
        (f"<Agent>{'a' * 65}</Agent>", "Agent"),
        ("<Language>a b</Language>", "Language"),
        (f"<Greeting>{'a' * 1001}</Greeting>", "Greeting"),
        ("<Limits><ConcurrentCalls>0</ConcurrentCalls></Limits>", "Limits/ConcurrentCalls"),
        ("<Limits><CallSeconds>86401</CallSeconds></Limits>", "Limits/CallSeconds"),
        ("<Limits><CallsPerHour>-1</CallsPerHour></Limits>", "Limits/CallsPerHour"),
        ("<Limits><CallsPerDay>²</CallsPerDay></Limits>", "Limits/CallsPerDay"),
        ("<Queue>mailto:a@b</Queue>", "Queue"),
        ("<Queue>sip:a@b?Route=x</Queue>", "Queue"),
        ("<Queue>sip:a@b&#10;X: y</Queue>", "Queue"),
        ("<Consent><Recording>maybe</Recording></Consent>", "Consent/Recording"),
    ],
)
def test_a_wrong_value_costs_that_element_alone(inside: str, element: str):
    found = settings(inside + "<Greeting>Hi</Greeting>")
    assert [problem.element for problem in found.problems] == [element]
    assert found.problems[0].reason
    assert found == ServiceSettings(greeting="Hi", problems=found.problems)


def test_no_consent_is_taken_from_what_is_not_clear():
    assert settings("<Consent><Recording>maybe</Recording></Consent>").consent.as_dict() == {}
    assert Consent(recording=False).as_dict() == {"recording": False}


def test_another_document_is_told():
    assert parse_service_settings_untrusted(b"<Other><Agent>x</Agent></Other>").agent is None
    assert [each.element for each in parse_service_settings_untrusted(b"<Other/>").problems] == [DOCUMENT]


def test_problems_are_bounded():
    many = settings("<Enabled>x</Enabled>" * 100)
    assert len(many.problems) == len(SETTINGS)


@given(st.binary(max_size=200))
def test_anything_is_settings_or_a_value_error(xml: bytes):
    with contextlib.suppress(ValueError):
        assert isinstance(parse_service_settings_untrusted(xml), ServiceSettings)


def test_entities_are_not_expanded_and_size_is_bounded():
    bomb = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 100 + b'">]><AgentProfile><Agent>&b;&b;</Agent></AgentProfile>'
    assert parse_service_settings_untrusted(bomb).agent is None
    with pytest.raises(ValueError, match="bytes"):
        parse_service_settings_untrusted(b"<a>" + b" " * MAX_SETTINGS_BYTES + b"</a>")
