"""Service data of the repository, and the host of a URI."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.profile import MAX_SETTINGS_BYTES, ServiceSettings, host_of, parse_service_settings_untrusted


@pytest.mark.parametrize(
    ("xml", "settings"),
    [
        (b"<AgentProfile/>", ServiceSettings()),
        (b"<AgentProfile><Enabled>false</Enabled></AgentProfile>", ServiceSettings(enabled=False)),
        (b"<AgentProfile><Enabled> 0 </Enabled></AgentProfile>", ServiceSettings(enabled=False)),
        (
            b'<p:AgentProfile xmlns:p="urn:x"><p:Agent>night</p:Agent><p:Language>de</p:Language></p:AgentProfile>',
            ServiceSettings(agent="night", language="de"),
        ),
        (b"<Other><Unknown>1</Unknown></Other>", ServiceSettings()),
    ],
)
def test_settings(xml: bytes, settings: ServiceSettings):
    assert parse_service_settings_untrusted(xml) == settings


@given(st.binary(max_size=200))
def test_anything_is_settings_or_a_value_error(xml: bytes):
    with contextlib.suppress(ValueError):
        assert isinstance(parse_service_settings_untrusted(xml), ServiceSettings)


def test_entities_are_not_expanded_and_size_is_bounded():
    bomb = b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 100 + b'">]><a><Agent>&b;&b;</Agent></a>'
    assert parse_service_settings_untrusted(bomb).agent is None
    with pytest.raises(ValueError, match="bytes"):
        parse_service_settings_untrusted(b"<a>" + b" " * MAX_SETTINGS_BYTES + b"</a>")


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:ai-as.example.net", "ai-as.example.net"),
        ("sip:term@AI-AS.example.net:5060;transport=tcp;lr", "ai-as.example.net"),
        ("sip:[2001:db8::1]:5060;lr", "[2001:db8::1]"),
        ("sips:a@b", "b"),
    ],
)
def test_host_of(uri: str, host: str):
    assert host_of(uri) == host
