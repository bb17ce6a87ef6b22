"""Numbers out of URIs, in one spelling, so that no other spelling gets past a rule (RFC 3966, RFC 3261 §19.1.6).

A tel: URI is a number; so is a SIP URI with ``user=phone``, and one whose user part looks like a number: cores treat it
so. Visual separators and escapes go, a local number becomes an international one where the dialling plan says how, and
parameters that would send a call elsewhere than the number says are found.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import OpaqueUri, SipUri, TelUri, parse_uri

__all__ = ["MAX_SHORT_DIGITS", "MAX_URI_CHARS", "NO_PLAN", "DialPlan", "Target", "read_target_untrusted"]

MAX_URI_CHARS: Final = 512
"""What an engine or a peer may name; no URI that somebody dials is longer."""
MAX_SHORT_DIGITS: Final = 6
"""An extension or a short code; a longer number without international form may be anybody's."""
MIN_E164_DIGITS: Final = 4
MAX_E164_DIGITS: Final = 15
"""E.164 §6.1."""

_SEPARATORS: Final = str.maketrans("", "", "-.() ")
_NUMBER_RE: Final = re.compile(r"\+?[0-9*#A-Fa-f]{1,40}")
_DIALLED_RE: Final = re.compile(r"\+?[0-9*#]{2,40}")
# RFC 4694, RFC 4904: these choose a route or another number than the one that is written
_ROUTING_PARAMS: Final = frozenset(
    {"rn", "rn-context", "npdi", "cic", "cic-context", "tgrp", "trunk-context", "enumdi"}
)
_URI_PARAMS: Final = frozenset({"maddr", "method", "ttl"})


@attrs.frozen
class DialPlan:
    """How local numbers become international ones."""

    local_prefix: str | None = None
    """``+`` and the calling code of the country that local numbers are of; None: they stay local."""
    international_prefix: str = "00"
    national_prefix: str = "0"
    """"": numbers are dialled in full, without a prefix."""

    def to_e164(self, dialled: str) -> str | None:
        """``+`` and digits, None for a number that has no such form here.

        Raises:
            ValueError: it is meant to be international, but no number of E.164 looks so. Who knows what a switch
                makes of it: one that cuts off what is too long would reach what the rest says.
        """
        if dialled.startswith("+"):
            digits = dialled[1:]
        elif not dialled.isdigit():
            return None
        elif self.local_prefix == "+1" and (len(dialled) == 10 or (len(dialled) == 11 and dialled[0] == "1")):
            digits = f"1{dialled[-10:]}"  # the North American plan is dialled in both ways
        elif self.international_prefix and dialled.startswith(self.international_prefix):
            digits = dialled.removeprefix(self.international_prefix)
        elif self.local_prefix is None or not dialled.startswith(self.national_prefix):
            return None
        elif len(dialled) <= MAX_SHORT_DIGITS:
            return None  # an extension, not a number of the country
        else:
            digits = self.local_prefix[1:] + dialled.removeprefix(self.national_prefix)
        if not digits.isdigit() or not MIN_E164_DIGITS <= len(digits) <= MAX_E164_DIGITS or digits[0] == "0":
            raise ValueError("no number of E.164")
        return f"+{digits}"


NO_PLAN: Final = DialPlan()


@attrs.frozen
class Target:
    """A URI as rules look at it."""

    uri: str
    """As it was named, without white space around it."""
    dialled: str | None = None
    """The number without separators, None when the URI is none."""
    number: str | None = None
    """The same in international form, None when it has none."""
    domain: str | None = None
    """Host of a SIP URI in small letters; for a tel: URI None: it is of the network that it is dialled in."""
    problem: str | None = None
    """Why nobody should call it, whatever the rules say."""

    @property
    def canonical(self) -> str:
        """The tel: URI of a tel: target that has an international form; else the URI."""
        return f"tel:{self.number}" if self.number is not None and self.domain is None else self.uri


def read_target_untrusted(text: str, plan: DialPlan) -> Target:
    """Never raises; what cannot be read has a `problem`."""
    text = text.strip()
    if not text or len(text) > MAX_URI_CHARS:
        return Target(text[:MAX_URI_CHARS], problem="not a URI of a usable length")
    try:
        uri = parse_uri(text)
    except SipParseError as error:
        return Target(text, problem=str(error))
    match uri:
        case TelUri():
            return _read_tel(text, uri, plan)
        case SipUri():
            return _read_sip(text, uri, plan)
        case OpaqueUri():
            if text.lower().startswith("urn:service:"):
                return Target(text, problem="a service, emergency services among them")
            return Target(text, problem="neither a SIP nor a tel URI")


def _read_tel(text: str, uri: TelUri, plan: DialPlan) -> Target:
    names = {name.lower() for name, _ in uri.params}
    if routing := sorted(names & _ROUTING_PARAMS):
        return Target(text, uri.digits, problem=f"the parameter {routing[0]} chooses the route")
    return _place(Target(text, uri.digits), uri.param("phone-context"), plan)


def _place(target: Target, context: str | None, plan: DialPlan) -> Target:
    """With its international form.

    Args:
        context: a prefix of a global number, which goes before it, or a domain, whose dialling plan is taken for ours.
    """
    dialled = target.dialled
    assert dialled is not None
    if context is not None and context.startswith("+") and not dialled.startswith("+"):
        if dialled.startswith(tuple(each for each in (plan.international_prefix, plan.national_prefix) if each)):
            # one who goes by the context reaches another number than one who goes by the prefix
            return attrs.evolve(target, problem="a dialling prefix besides phone-context")
        dialled = context.translate(_SEPARATORS) + dialled
    try:
        return attrs.evolve(target, number=plan.to_e164(dialled))
    except ValueError as error:
        return attrs.evolve(target, problem=str(error))


def _read_sip(text: str, uri: SipUri, plan: DialPlan) -> Target:
    domain = uri.host.lower().rstrip(".")
    if uri.headers:
        return Target(text, domain=domain, problem="headers in the URI")
    if uri.password:
        return Target(text, domain=domain, problem="a password in the URI")
    names = {name.lower() for name, _ in uri.params}
    if unsafe := sorted(names & (_URI_PARAMS | _ROUTING_PARAMS)):
        return Target(text, domain=domain, problem=f"the parameter {unsafe[0]} chooses the route")
    # the user part of such a URI is a telephone-subscriber, parameters and all
    user, *params = unquote(uri.user).split(";")
    dialled = user.translate(_SEPARATORS)
    is_phone = (uri.param("user") or "").lower() == "phone"
    if not (_DIALLED_RE.fullmatch(dialled) or (is_phone and _NUMBER_RE.fullmatch(dialled))):
        if is_phone or dialled.startswith("+"):
            return Target(text, domain=domain, problem="meant as a number, but none")
        return Target(text, domain=domain)
    named = dict(part.lower().partition("=")[::2] for part in params)
    if routing := sorted(named.keys() & _ROUTING_PARAMS):
        return Target(text, dialled, domain=domain, problem=f"the parameter {routing[0]} chooses the route")
    return _place(Target(text, dialled, domain=domain), named.get("phone-context"), plan)
