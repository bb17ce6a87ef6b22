"""What the linter can find: the rules with severity, clause and consequence.  `docs/ifc.md` explains each."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

import attrs

__all__ = ["RULES", "Finding", "Rule", "Severity", "found"]


class Severity(Enum):
    """ERROR: breaks the specification or harms users.  WARNING: dangerous or not portable.  INFO: good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@attrs.frozen
class Finding:
    severity: Severity
    rule: str
    line: int | None
    text: str
    clause: str
    consequence: str

    def to_dict(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "severity": self.severity.value}


@attrs.frozen
class Rule:
    name: str
    severity: Severity
    clause: str
    consequence: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO
_B, _F = "TS 29.228 Annex B", "TS 29.228 Annex F"
_SCHEMA = "TS 29.228 Annex E"

_ALL = (
    # ---- the document
    Rule("unreadable", _E, _SCHEMA, "the S-CSCF leaves the criterion out, or refuses the whole profile"),
    Rule("pattern-refused", _E, _F,
         "Sprout leaves the criterion out; Kamailio takes the trigger for false, so a negated one always holds"),
    Rule("negative-group", _E, _SCHEMA,
         "Group counts from 0: the S-CSCF leaves the criterion out, or refuses the profile"),
    Rule("condition-type-missing", _E, _SCHEMA,
         "whether groups are joined by and or by or is left to the S-CSCF: the criterion is left out, or read "
         "either way"),
    Rule("element-order", _W, _SCHEMA, "an S-CSCF or HSS that validates against the schema refuses the whole profile"),
    Rule("unknown-element", _W, _SCHEMA, "it is ignored, or the whole profile is refused"),
    Rule("duplicate-priority", _E, _B, "which application server comes first is left to chance"),
    Rule("shared-set-unknown", _E, "TS 29.228 Annex E, TS 23.218 §5.2",
         "the S-CSCF has no criteria for this set: the service is missing without any error"),
    Rule("shared-set", _I, "TS 29.228 §6.1.1, TS 29.229 §7.1.1",
         "an S-CSCF without the SiFC feature or without the table for this set does not have its criteria"),
    # ---- the application server
    Rule("foreign-server", _W, _B, "the S-CSCF sends these requests to another server"),
    Rule("server-name-spelling", _I, "TS 29.328 §7.6.8",
         "an HSS that compares Server-Name literally keeps this criterion from us on Sh"),
    Rule("session-case-ambiguous", _W, "TS 24.229 §5.7.1, RFC 5502",
         "where the S-CSCF sends no P-Served-User (Kamailio by default), the application server cannot tell "
         "whom it serves"),
    Rule("default-handling-absent", _I, _B,
         "an absent DefaultHandling means SESSION_CONTINUED; write it, so that nobody wonders"),
    Rule("service-info-too-long", _W, _SCHEMA,
         "FHoSS stores 255 characters; the body of the third-party REGISTER grows with it"),
    Rule("service-info-unused", _I, "TS 23.218 §6.9.2.5", "ServiceInfo goes into third-party REGISTER requests only"),
    Rule("include-register-unused", _I, "TS 24.229 §5.4.1.7", "the flags only count for third-party REGISTER requests"),
    Rule("include-register-both", _I, "TS 24.229 §5.4.1.7", "Kamailio includes only one of the two"),
    # ---- what the criterion takes
    Rule("never-matches", _E, _B, "the application server is never triggered by it"),
    Rule("unreachable", _W, "TS 23.218 §6.4, §6.5",
         "the server of the earlier criterion answers as the called party: this one only sees what that passes "
         "on or fails on"),
    Rule("repeated-server", _W, "TS 23.218 §5.2.3", "one request visits the same application server twice"),
    Rule("register-terminated", _E, "TS 24.229 §5.4.1.7",
         "while the application server is down, the S-CSCF de-registers the user"),
    Rule("session-terminated", _W, "TS 24.229 §5.4.3.2, §5.4.3.3",
         "if this AS fails, the call dies: it is rejected instead of going on to the user's phone"),
    Rule("unregistered-nowhere", _I, "TS 23.218 §6.5.2",
         "if this AS fails, the call is rejected in spite of SESSION_CONTINUED: an unregistered user has no "
         "phone to go on to"),
    Rule("no-trigger-point", _W, _B,
         "every initial request goes to the application server, REGISTER, MESSAGE and SUBSCRIBE too"),
    Rule("any-method", _W, _B, "MESSAGE, SUBSCRIBE, PUBLISH and OPTIONS go to the application server as calls do"),
    Rule("no-safety-exclusion", _W, "RFC 5031, RFC 7090, RFC 4412",
         "such calls depend on the application server to let them through"),
    Rule("group-always-holds", _W, _B,
         "the group asks nothing; negations that exclude several things belong into groups of their own (CNF)"),
    Rule("group-never-holds", _W, _B, "the group is dead: no request meets all of its triggers"),
    Rule("not-all-compared", _I, _B,
         "some criteria may be unreachable or visit a server twice without being told here"),
    # ---- triggers
    Rule("method-case", _E, "RFC 3261 §7.1",
         "methods are compared as they are spelled: it never matches (only Kamailio ignores case)"),
    Rule("method-unknown", _W, "RFC 3261 §7.1", "no request is likely to have this method"),
    Rule("method-not-initial", _W, "TS 23.218 §5.2",
         "criteria are tested on initial requests only, and this method never begins anything"),
    Rule("registration-type-without-register", _W, _B,
         "RegistrationType means nothing beside this condition and is ignored"),
    Rule("session-case-with-register", _W, _B,
         "whether a REGISTER has a session case differs: some S-CSCFs call it originating, others find no case "
         "and do not match"),
    Rule("negated-session-case", _W, _B, "all other session cases match, originating ones too"),
    Rule("session-case-portability", _I, _SCHEMA,
         "it never occurs at a Kamailio S-CSCF, and schemas before Release 9 do not have case 4"),
    Rule("request-uri-user-part", _E, _F,
         "patterns see host and port of a SIP URI, or the number of a tel URI, never scheme and user part: it "
         "does not match"),
    Rule("request-uri-portability", _W, _F,
         "tested on host and port only by the specification and Sprout, on the whole URI by Kamailio"),
    Rule("header-name-impossible", _E, _F,
         "no header can have such a name: the trigger never holds (and its negation always)"),
    Rule("header-name-compact", _W, "RFC 3261 §7.3.3",
         "headers are known by their full names: a compact form matches nothing"),
    Rule("header-not-anchored", _I, _F, "it matches every header name that contains it"),
    Rule("negated-header-without-content", _W, _B,
         "Kamailio negates twice: the trigger always holds there; write <Content>.*</Content>"),
    Rule("content-never-matches", _E, _F, "the trigger never holds (and its negation always)"),
    Rule("content-needs-comma", _W, _F,
         "each value of a list is tested on its own: a comma between values is never seen"),
    Rule("pattern-empty", _W, _F, "an empty pattern matches everything"),
    Rule("sdp-line-impossible", _E, _F,
         "Line is tested on the type letter alone, Content on what follows the =: it never matches"),
    Rule("sdp-content-with-letter", _W, _F,
         "Content is tested on what follows the =; only Kamailio sees the letter too"),
    Rule("pattern-too-long", _W, _F, "Kamailio takes 255 characters at most"),
    Rule("group-not-adjacent", _W, _B, "Kamailio takes them for two groups"),
    # ---- what HSSes can hold
    Rule("open5gs", _I, "Open5GS, subscribers.ifc", "Open5GS cannot hold the profile as it is"),
    Rule("fhoss", _I, "FHoSS, hss_db",
         "FHoSS writes values into the XML as they are stored: escape them before storing"),
)  # fmt: skip

RULES: Final[dict[str, Rule]] = {rule.name: rule for rule in _ALL}


def found(
    rule: str, line: int | None, text: str, *, consequence: str | None = None, severity: Severity | None = None
) -> Finding:
    """A finding of the rule; what is given counts instead of what the rule says."""
    given = RULES[rule]
    return Finding(severity or given.severity, rule, line, text, given.clause, consequence or given.consequence)
