"""Profiles that people write: strict, and edited without losing what is not understood."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ims_as.call.profile_document import (
    ProfileDocumentError,
    compare_profiles_untrusted,
    edit_profile_untrusted,
    flatten,
    parse_edits,
    profile_problems,
    unknown_elements_untrusted,
)
from ims_as.call.service_settings import SETTINGS, parse_service_settings_untrusted


@pytest.mark.parametrize(
    ("xml", "problems"),
    [
        (b"<AgentProfile/>", []),
        (b"<AgentProfile><Extension><x:y xmlns:x='urn:x'/></Extension></AgentProfile>", []),
        (b"<Other/>", ["line 1: the element is Other, not AgentProfile"]),
        (b'<AgentProfile xmlns="urn:x"/>', ["line 1: AgentProfile is in the namespace urn:x, and must be in none"]),
        (b"<AgentProfile>\n<Enabled>yes</Enabled></AgentProfile>", ["line 2: Enabled: must be true or false"]),
        (b"<AgentProfile>\n\n<Foo/></AgentProfile>", ["line 3: Foo: This element is not expected."]),
        (
            b"<AgentProfile><Limits>\n<CallSeconds>0</CallSeconds>\n<CallsPerDay>x</CallsPerDay></Limits></AgentProfile>",
            [
                "line 2: Limits/CallSeconds: not a number from 1 to 86400",
                "line 3: Limits/CallsPerDay: not a number from 1 to 1000000",
            ],
        ),
        (
            b"<AgentProfile><Queue>sip:a@b?x=y</Queue></AgentProfile>",
            ["line 1: Queue: no headers, password or method in the URI"],
        ),
    ],
)
def test_problems_have_line_and_reason(xml: bytes, problems: list[str]):
    assert profile_problems(xml) == problems


@pytest.mark.parametrize(
    "xml",
    [
        b"<a>",
        b"",
        b"x" * 70_000,
        b"<AgentProfile><Agent>a</Agent><Agent>b</Agent></AgentProfile>",
        b"<AgentProfile>text</AgentProfile>",
        b"<AgentProfile new='1'/>",
        b"<AgentProfile><Agent/></AgentProfile>",
    ],
)
def test_it_is_strict(xml: bytes):
    assert len(profile_problems(xml)) == 1


TEXTS: dict[str, st.SearchStrategy[Any]] = {
    "enabled": st.sampled_from(["true", "false"]),
    "agent": st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True),
    "language": st.sampled_from(["de", "pt-BR", "zh-Hant-TW"]),
    "greeting": st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=50),
    "queue": st.sampled_from(["sip:desk@x", "tel:+4930123"]),
    "consent.recording": st.sampled_from(["true", "false"]),
    "consent.announce": st.sampled_from(["true", "false"]),
}
COUNTS = st.integers(1, 86400).map(str)
EDITS = st.fixed_dictionaries({}, optional={each.name: TEXTS.get(each.name, COUNTS) | st.just("") for each in SETTINGS})


@given(EDITS, EDITS)
def test_what_is_written_is_valid_and_read_back(first: dict[str, str], second: dict[str, str]):
    xml = edit_profile_untrusted(edit_profile_untrusted(None, parse_edits(first)), parse_edits(second))
    assert profile_problems(xml) == []
    wanted = {name: text for name, text in {**first, **second}.items() if text}
    found = flatten(parse_service_settings_untrusted(xml))
    told = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in found.items()}
    assert {name: text for name, text in told.items() if found[name] is not None} == {"enabled": "true", **wanted}
    assert edit_profile_untrusted(xml, parse_edits(second)) == xml


def test_all_else_stays_and_elements_come_in_order():
    stored = b"<AgentProfile><!-- c --><Foo a='1'>x</Foo><Limits><CallsPerDay>5</CallsPerDay></Limits></AgentProfile>"
    edited = edit_profile_untrusted(
        stored, parse_edits({"consent.recording": "1", "agent": "a", "limits.call_seconds": "9"})
    )
    root = etree.fromstring(edited)
    assert [each.tag for each in root if isinstance(each.tag, str)] == ["Agent", "Foo", "Limits", "Consent"]
    assert [each.tag for each in root.iterfind("Limits/*")] == ["CallSeconds", "CallsPerDay"]
    assert b"<!-- c -->" in edited
    assert unknown_elements_untrusted(edited) == ["Foo"]


def test_a_group_goes_with_its_last_setting_and_doubles_go():
    stored = (
        b"<AgentProfile><Limits><CallSeconds>9</CallSeconds></Limits><Agent>a</Agent><Agent>b</Agent></AgentProfile>"
    )
    edited = etree.fromstring(edit_profile_untrusted(stored, parse_edits({"limits.call_seconds": "", "agent": "c"})))
    assert [(each.tag, each.text) for each in edited] == [("Agent", "c")]


def test_a_namespace_is_kept():
    edited = edit_profile_untrusted(b'<p:AgentProfile xmlns:p="urn:x"/>', parse_edits({"limits.call_seconds": "9"}))
    assert parse_service_settings_untrusted(edited).limits.call_seconds == 9
    assert edited.count(b"urn:x") == 1


@pytest.mark.parametrize("stored", [b"<Other/>", b"plain"])
def test_what_is_no_profile_is_not_edited(stored: bytes):
    with pytest.raises(ProfileDocumentError, match="what is stored is"):
        edit_profile_untrusted(stored, {})


def test_changes_are_told_by_setting():
    before = b"<AgentProfile><Agent>a</Agent></AgentProfile>"
    after = b"<AgentProfile><Enabled>0</Enabled></AgentProfile>"
    assert [str(each) for each in compare_profiles_untrusted(before, after)] == [
        "enabled: true → false",
        "agent: a → not set",
    ]
    assert [str(each) for each in compare_profiles_untrusted(None, before)] == ["agent: not set → a"]
