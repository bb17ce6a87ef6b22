from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from ifc.engine import evaluate
from ifc.explain import describe_criterion
from ifc.model import InitialFilterCriteria
from ifc.parser import parse_criteria_untrusted, parse_subscription_untrusted
from ifc.view import PlainRequestView
from ims_as.ifc_tool.description import Description, DescriptionError, parse_description, write_description
from ims_as.ifc_tool.render import Format, render
from tests.ifc.strategies import CRITERIA_LISTS, VIEWS

FULL = """
user:
  private: 001010000000002@ims.example.net
  public: ["sip:bob@ims.example.net", "tel:+15550000002"]
criteria:
  - priority: 10
    server: sip:ai-as.example.net
    default_handling: continued
    profile_part: registered
    all:
      - method: INVITE
      - any: [{session_case: terminating-registered}, {session_case: terminating-unregistered}]
      - not: {header: ^Priority$, content: psap-callback}
      - not: {request_uri: "^(urn:)?service:sos"}
      - {sdp: m, content: ^audio}
  - priority: 5
    server: sip:ai-as.example.net
    default_handling: terminated
    service_info: a < b & c
    include_register: [request, response]
    any:
      - all: [{method: REGISTER, registration: [initial, de]}, {session_case: originating-registered}]
      - {header: ^X-Agent$}
"""


def matching(criteria: tuple[InitialFilterCriteria, ...], view: PlainRequestView) -> list[int]:
    return [match.criterion.priority for match in evaluate(criteria, view)]


def problems(text: str) -> list[str]:
    with pytest.raises(DescriptionError) as caught:
        render(parse_description(text), Format.XML)
    return [str(problem) for problem in caught.value.problems]


def one(**changes: object) -> str:
    return yaml.safe_dump({"criteria": [{"priority": 1, "server": "sip:as", **changes}]})


def test_a_description_with_everything():
    parsed = parse_subscription_untrusted(render(parse_description(FULL), Format.XML).text.encode())
    assert parsed.problems == ()
    assert parsed.subscription.private_id == "001010000000002@ims.example.net"
    (profile,) = parsed.subscription.service_profiles
    assert [each.identity for each in profile.public_identities] == ["sip:bob@ims.example.net", "tel:+15550000002"]
    assert [describe_criterion(each) for each in profile.criteria] == [
        "priority 5: sip:ai-as.example.net (SESSION_TERMINATED) when "
        "(Method is REGISTER of type INITIAL_REGISTRATION or DE_REGISTRATION and SessionCase is ORIGINATING_REGISTERED)"
        " or (header ^X-Agent$ is present)",
        "priority 10: sip:ai-as.example.net (SESSION_CONTINUED) when (Method is INVITE) and "
        "(SessionCase is TERMINATING_REGISTERED or SessionCase is TERMINATING_UNREGISTERED) and "
        "(not (header ^Priority$ matches psap-callback)) and (not (RequestURI matches ^(urn:)?service:sos)) and "
        "(SDP line m matches ^audio), registered part of the profile only",
    ]
    server = profile.criteria[0].application_server
    assert (server.service_info, server.include_register_request, server.include_register_response) == (
        "a < b & c",
        True,
        True,
    )


def test_without_a_user_the_criteria_stand_alone():
    text = render(parse_description(one(all=[{"method": "INVITE"}])), Format.XML).text
    assert etree.fromstring(text.encode()).tag == "IFCs"


def test_pyhss_gets_a_template_for_all_subscribers():
    text = render(parse_description(one(all=[{"method": "INVITE"}])), Format.PYHSS).text
    root = etree.fromstring(text.encode())
    assert root.findtext("PrivateID", "").startswith("{{ iFC_vars['imsi'] }}@ims.mnc{{ iFC_vars['mnc'] }}.")
    assert "tel:{{ iFC_vars['msisdn'] }}" in [each.text for each in root.iter("Identity")]
    assert len(parse_criteria_untrusted(text.encode()).criteria) == 1
    assert "iFC_vars" not in render(parse_description(FULL), Format.PYHSS).text


def test_pyhss_refuses_what_jinja_would_eat():
    description = parse_description(one(service_info="{{ secret }}"))
    assert "{{ secret }}" in render(description, Format.XML).text
    with pytest.raises(DescriptionError, match=r"criteria\[0\].*Jinja2"):
        render(description, Format.PYHSS)


def test_all_problems_come_at_once_with_their_paths():
    text = """
user: {private: "", public: [bob]}
criteria:
  - {priority: -1, server: http://x, default_handling: maybe}
  - {priority: 1, server: sip:as, all: [{method: INVITE, content: x}, {header: "(", content: a},
                                        {all: []}, {sdp: m, method: X}]}
  - {priority: 1, server: sip:as, colour: red}
  - {priority: 2, server: sip:as, all: [], any: []}
  - {priority: 3, server: sip:as, all: [{method: INVITE, registration: initial}]}
"""
    told = problems(text)
    for path in (
        "user.private:",
        "user.public[0]:",
        "criteria[0].priority:",
        "criteria[0].server:",
        "criteria[0].default_handling:",
        "criteria[1].all[0].content: unknown key",
        "criteria[1].all[1].header:",
        "criteria[1].all[2]: all inside all",
        "criteria[1].all[3]: expected one of",
        "criteria[2].colour: unknown key",
        "criteria[3]: either all or any",
        "criteria[4].all[0].registration: means something for method REGISTER only",
    ):
        assert any(line.startswith(path) for line in told), (path, told)
    assert len(told) == 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected keys and values"),
        ("criteria: []", "criteria: expected a list that is not empty"),
        ("a: [", "not valid YAML"),
        ("criteria: 1\ncriteria: 2", "is there twice"),
        ("x" * 300_000, "at most"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_what_is_no_description(text: str, expected: str):
    assert expected in "\n".join(problems(text))


def test_a_priority_twice_is_refused():
    criterion = {"priority": 4, "server": "sip:as"}
    text = yaml.safe_dump({"criteria": [criterion, dict(criterion)]}, default_flow_style=True)
    assert problems(text) == ["criteria[1].priority: 4 is already that of criteria[0]"]


def test_problems_have_their_place():
    text = "criteria:\n  - priority: 1\n    server: sip:as\n    all:\n      - not: {header: ^a$, content: '('}\n"
    with pytest.raises(DescriptionError) as caught:
        parse_description(text + "  - priority: 2\n    all: [{method: INVITE}]\n    color: red\n")
    places = [(each.path, each.line, each.column) for each in caught.value.problems]
    assert places == [
        ("criteria[0].all[0].not.header", 5, 23),
        ("criteria[1].color", 8, 12),
    ]
    assert caught.value.problems[0].at("a.yaml").startswith("a.yaml:5:23: criteria[0].all[0].not.header: ")
    with pytest.raises(DescriptionError) as caught:
        parse_description("criteria:\n  - {priority: 1}\n")
    assert [each.at("a") for each in caught.value.problems] == ["a:2:5: criteria[0].server: expected text, not None"]
    with pytest.raises(DescriptionError) as caught:
        parse_description("a:\n  b: [\n")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (3, 1)


def test_a_description_is_written_as_it_was_read():
    description = parse_description(FULL)
    assert parse_description(write_description(description)) == description


@given(CRITERIA_LISTS, st.lists(VIEWS, min_size=1, max_size=5))
@settings(max_examples=100)
def test_what_is_written_means_the_same(criteria: tuple[InitialFilterCriteria, ...], views: list[PlainRequestView]):
    with suppress(DescriptionError):  # blank service info, a RegistrationType with another method
        again = parse_description(write_description(Description(criteria))).criteria
        assert [each.application_server for each in again] == [each.application_server for each in criteria]
        for view in views:
            assert matching(again, view) == matching(criteria, view)


def test_the_xml_is_valid():
    schema = etree.XMLSchema(etree.parse(Path(__file__).parents[2] / "data/cx-user-profile-rel18.xsd"))
    for output in (Format.XML, Format.PYHSS):
        schema.assertValid(etree.fromstring(render(parse_description(FULL), output).text.encode()))
    wrong = render(parse_description(FULL), Format.XML).text.replace("<Priority>5</Priority>", "")
    assert not schema.validate(etree.fromstring(wrong.encode()))


def test_text_that_xml_cannot_hold_is_refused():
    assert "XML" in "\n".join(problems(one(service_info="a\x00b").replace("\\0", "\\x01")))


def test_what_reads_back_differently_is_refused():
    # more triggers than any reader takes
    (told,) = problems(one(all=[{"method": "INVITE"} for _ in range(101)]))
    assert "cannot be read back: " in told
    assert "more than 100 SPTs" in told


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda part: (
            st.lists(part, max_size=3)
            | st.dictionaries(
                st.sampled_from(["criteria", "user", "priority", "server", "all", "any", "not", "method", "header"]),
                part,
                max_size=4,
            )
        ),
    )
)
@settings(max_examples=150)
def test_no_tree_brings_another_error(tree: object):
    with suppress(DescriptionError):
        render(parse_description(yaml.safe_dump(tree)), Format.XML)
