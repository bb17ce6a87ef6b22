"""Random criteria, requests and patterns."""

from __future__ import annotations

from hypothesis import strategies as st

from ifc.ere import Ere
from ifc.model import (
    ApplicationServer,
    DefaultHandling,
    ImsSubscription,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    PublicIdentity,
    RegistrationType,
    RequestUriCondition,
    ServicePointTrigger,
    ServiceProfile,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.view import PlainRequestView

METHODS = st.sampled_from(["INVITE", "MESSAGE", "REGISTER"])
NAMES = ["Priority", "P-Asserted-Identity", "Subject"]
VALUES = st.sampled_from(["", "a", "b", "ab", "bb a", "psap-callback"])
PATTERN_TEXTS = [
    "a",
    "^b$",
    ".*",
    "^psap",
    "(a|b){2}",
    "x",
    "^.*$",
    "",
    "^a?b+",
    "b$",
    "[^b]",
    "b.*a",
    "^[a-b]+$",
    "^$",
]
PATTERNS = st.sampled_from(PATTERN_TEXTS).map(Ere)

CONDITIONS = st.one_of(
    st.builds(
        RequestUriCondition,
        st.sampled_from(["example", "^\\+1", "net$", "bob", "^service:sos", "^example.net$", "5060"]).map(Ere),
    ),
    st.builds(MethodCondition, METHODS),
    st.builds(
        SipHeaderCondition,
        st.sampled_from(["^Priority$", "^p-", "Subject", "ity", "^.*$", "P(ri|-A).*y$", "^subject$", "^X-No$"]).map(
            lambda text: Ere(text, ignore_case=True)
        ),
        st.none() | PATTERNS,
    ),
    st.builds(SessionCaseCondition, st.sampled_from(SessionCase)),
    st.builds(
        SessionDescriptionCondition, st.sampled_from(["m", "^a$", "[va]", ".*", "^m$"]).map(Ere), st.none() | PATTERNS
    ),
)
TRIGGERS = st.builds(
    ServicePointTrigger,
    condition=CONDITIONS,
    groups=st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple),
    negated=st.booleans(),
    registration_types=st.lists(st.sampled_from(RegistrationType), max_size=2).map(tuple),
)
TRIGGER_POINTS = st.builds(TriggerPoint, st.booleans(), st.lists(TRIGGERS, min_size=1, max_size=6).map(tuple))

XML_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=("Cs", "Cc", "Cn")), max_size=20
)
SERVERS = st.builds(
    ApplicationServer,
    server_name=st.sampled_from(["sip:a.example.net", "sip:orig@[2001:db8::1]:5060;transport=tcp", "sips:b"]),
    default_handling=st.none() | st.sampled_from(DefaultHandling),
    service_info=st.none() | XML_TEXT,
    include_register_request=st.booleans(),
    include_register_response=st.booleans(),
)
CRITERIA = st.builds(
    InitialFilterCriteria,
    priority=st.integers(0, 2**31 - 1),
    trigger_point=st.none() | TRIGGER_POINTS,
    application_server=SERVERS,
    profile_part=st.none() | st.sampled_from(ProfilePart),
)
CRITERIA_LISTS = st.lists(CRITERIA, max_size=5).map(lambda each: tuple(sorted(each, key=lambda one: one.priority)))
IDENTITIES = st.builds(
    PublicIdentity,
    identity=st.sampled_from(["sip:bob@example.net", "tel:+15550100"]),
    barred=st.booleans(),
    identity_type=st.none() | st.integers(0, 4),
    wildcarded_psi=st.none() | XML_TEXT,
    display_name=st.none() | XML_TEXT,
    alias_group=st.none() | XML_TEXT,
    wildcarded_impu=st.none() | XML_TEXT,
    service_priority_level=st.none() | st.integers(0, 4),
)
PROFILES = st.builds(
    ServiceProfile,
    public_identities=st.lists(IDENTITIES, min_size=1, max_size=3).map(tuple),
    criteria=CRITERIA_LISTS,
    shared_ifc_set_ids=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    media_profile_id=st.none() | st.integers(0, 9),
)
SUBSCRIPTIONS = st.builds(
    ImsSubscription, st.just("001@example.net"), st.lists(PROFILES, min_size=1, max_size=2).map(tuple)
)

VIEWS = st.builds(
    PlainRequestView,
    method=METHODS,
    request_uri=st.sampled_from(
        [
            "sip:bob@example.net",
            "sips:b;x?y@example.net:5060;user=phone?a=b",
            "sip:example.net",
            "tel:+15550100",
            "urn:service:sos",
        ]
    ),
    session_case=st.none() | st.sampled_from(SessionCase),
    header_map=st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, min_size=1, max_size=4), max_size=3),
    sdp=st.lists(st.tuples(st.sampled_from("vma"), VALUES), max_size=5),
    registration_type=st.none() | st.sampled_from(RegistrationType),
)


def _extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = inner.map(lambda text: f"({text})")
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(group, st.sampled_from(["*", "+", "?", "{0}", "{2}", "{1,}", "{0,2}"])).map("".join),
    )


ERE_TEXTS = st.recursive(
    st.sampled_from(["a", "b", "ab", ".", "[ab]", "[^a]", "[[:digit:]]", "^", "$", "()", "\\."]), _extend, max_leaves=8
)
"""Patterns over a small alphabet, anchors in any place."""
