"""Targets of the filter criteria: documents, patterns, evaluation."""

from __future__ import annotations

from ifc.engine import evaluate
from ifc.ere import MAX_TEXT_CHARS, Ere
from ifc.ere_linear import LinearMatcher
from ifc.ere_syntax import parse_ere
from ifc.errors import EreError, IfcError
from ifc.explain import describe_criterion
from ifc.model import SessionCase
from ifc.parser import parse_criteria_untrusted, parse_subscription_untrusted
from ifc.view import PlainRequestView
from ifc.writer import write_criteria, write_subscription
from ims_as.ifc_tool.lint import lint_untrusted
from tests.fuzz.diameter_seeds import IFCS, SH_DATA, XML_TOKENS
from tests.fuzz.target import Target
from tests.fuzz.xml import mend_xml

__all__ = ["IFC_TARGETS"]

_RICH = b"""<InitialFilterCriteria><Priority>7</Priority><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF>
<SPT><ConditionNegated>1</ConditionNegated><Group>0</Group><Group>1</Group><RequestURI>^sip:(\\+49|0)[0-9]{3,9}@</RequestURI>
</SPT><SPT><Group>0</Group><SIPHeader><Header>^Accept-Contact$</Header><Content>.*g\\.3gpp\\.icsi.*</Content></SIPHeader></SPT>
<SPT><Group>1</Group><SessionDescription><Line>m</Line><Content>^audio .* RTP/AVP</Content></SessionDescription></SPT>
<SPT><Group>1</Group><Method>REGISTER</Method><Extension><RegistrationType>0</RegistrationType><RegistrationType>2
</RegistrationType></Extension></SPT><SPT><Group>2</Group><SessionCase>3</SessionCase></SPT></TriggerPoint>
<ApplicationServer><ServerName>sip:tas.example.net:5060;lr</ServerName><DefaultHandling>1</DefaultHandling>
<ServiceInfo>x &lt;y&gt;</ServiceInfo><Extension><IncludeRegisterRequest/><IncludeRegisterResponse/></Extension>
</ApplicationServer><ProfilePartIndicator>1</ProfilePartIndicator></InitialFilterCriteria>"""
_SUBSCRIPTION = (
    b"<IMSSubscription><PrivateID>bob@example.net</PrivateID><ServiceProfile><PublicIdentity><BarringIndication>1"
    b"</BarringIndication><Identity>sip:bob@example.net</Identity></PublicIdentity><PublicIdentity><Identity>sip:!.*!@x"
    b"</Identity><Extension><IdentityType>2</IdentityType><WildcardedPSI>sip:!.*!@x</WildcardedPSI></Extension>"
    b"</PublicIdentity>" + _RICH + b"<CoreNetworkServicesAuthorization><SubscribedMediaProfileId>3"
    b"</SubscribedMediaProfileId></CoreNetworkServicesAuthorization><Extension><SharedIFCSetID>7</SharedIFCSetID>"
    b"</Extension></ServiceProfile></IMSSubscription>"
)
_VIEWS = (
    PlainRequestView(
        method="INVITE",
        request_uri="sip:+4930123@example.net",
        session_case=SessionCase.TERMINATING_REGISTERED,
        header_map={"Accept-Contact": ("*;+g.3gpp.icsi-ref=x",), "Via": ("a", "b")},
        sdp=(("v", "0"), ("c", "IN IP4 1.2.3.4"), ("m", "audio 9 RTP/AVP 0"), ("a", "sendrecv")),
    ),
    PlainRequestView(method="REGISTER", request_uri="sip:example.net"),
)
_TEXTS = ("", "a" * 40 + "!", "sip:+4930123@example.net", "ab" * 300, "\u00e9\ud7ff", "x" * (MAX_TEXT_CHARS + 1))
_PATTERNS = (
    b"^sip:(\\+49|0)[0-9]{3,9}@",
    b"(a+)+$",
    b"(a|aa)*b",
    b"[[:digit:]]+[^a-f-]?",
    b"^INVITE$",
    b".*g\\.3gpp\\.icsi.*",
    b"(x{1,3}){2,4}|y?$",
    b"[]a-]|[^]]",
)
_PATTERN_TOKENS = (
    b"(", b")", b"|", b"*", b"+", b"?", b"{", b"}", b"{1,255}", b"{3}", b"[", b"]", b"[^", b"^", b"$", b"\\",
    b"\\\\", b".", b".*", b"[[:alpha:]]", b"[a-z]", b"((((((((((", b"(a*)*", b"(a|a)*", b"\\1", b"(?=", b"[[.a.]]",
)  # fmt: skip


def read_criteria(data: bytes) -> None:
    """Criteria can be evaluated, told and written; written and read again they are the same."""
    try:
        parsed = parse_criteria_untrusted(data)
    except IfcError:
        parsed = parse_criteria_untrusted(mend_xml(data))
    for criterion in parsed.criteria:
        describe_criterion(criterion)
    for view in _VIEWS:
        evaluate(parsed.criteria, view)
    again = parse_criteria_untrusted(write_criteria(parsed.criteria))
    assert again.criteria == parsed.criteria
    for problem in parsed.problems:
        assert len(str(problem)) < 1000


def read_subscription(data: bytes) -> None:
    try:
        parsed = parse_subscription_untrusted(data).subscription
    except IfcError:
        parsed = parse_subscription_untrusted(mend_xml(data)).subscription
    assert parse_subscription_untrusted(write_subscription(parsed)).subscription == parsed


def lint(data: bytes) -> None:
    """Findings for whatever it is, with and without an identity of ours."""
    for identity in (None, "sip:as.example.net"):
        for finding in lint_untrusted(mend_xml(data), identity=identity):
            finding.to_dict()


def match_pattern(data: bytes) -> None:
    """A pattern: with and without regard to case, short and long texts, one and several; all machines agree."""
    text = data.decode("utf-8", "surrogateescape")
    for ignore_case in (False, True):
        ere = Ere(text, ignore_case=ignore_case)
        linear = LinearMatcher(parse_ere(text), ignore_case=ignore_case)
        for subject in _TEXTS:
            found = ere.matches(subject)
            assert ere.is_any or not (found and len(subject) > MAX_TEXT_CHARS)
            if len(subject) <= 64:
                assert linear.search(subject) == found
        short = [subject for subject in _TEXTS if len(subject) <= min(64, ere.regex_chars)]
        if ere.regex is not None and short:
            at_once = ere.lines().search("".join(f"\n{subject}" for subject in short)) is not None
            assert at_once == any(map(ere.matches, short))


IFC_TARGETS = (
    Target(
        "ifc-criteria",
        read_criteria,
        (IfcError,),
        (IFCS, b"<IFCs>" + _RICH + b"</IFCs>", _RICH, SH_DATA[0], _SUBSCRIPTION),
        (*XML_TOKENS, *_PATTERN_TOKENS),
    ),
    Target("ifc-subscription", read_subscription, (IfcError,), (_SUBSCRIPTION,), XML_TOKENS),
    Target("ifc-lint", lint, (), (IFCS, _RICH, _SUBSCRIPTION), (*XML_TOKENS, *_PATTERN_TOKENS)),
    Target("ifc-pattern", match_pattern, (EreError,), _PATTERNS, _PATTERN_TOKENS),
)
