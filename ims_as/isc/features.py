"""Feature tags and communication services: Contact (RFC 3840), Accept-Contact and Reject-Contact (RFC 3841),
Feature-Caps (RFC 6809), P-Asserted-Service and P-Preferred-Service (RFC 6050) and the ICSI in them (TS 24.229 §7.2A.8).

Of RFC 3841 the subset that decides whether we fit: tokens, strings, booleans and negation. Numeric ranges count as not
known. There is no scoring, since we have one contact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote as percent_quote
from urllib.parse import unquote as percent_unquote

import attrs

from ims_as.isc.params import MAX_VALUES, param_value, read_addresses_untrusted, read_params_untrusted
from ims_as.sip.grammar import Params
from ims_as.sip.message import Message

__all__ = [
    "ICSI_TAG",
    "MMTEL",
    "MMTEL_CONTACT_PARAM",
    "ContactPreference",
    "Features",
    "accepts",
    "format_features",
    "read_accept_contacts_untrusted",
    "read_contact_features_untrusted",
    "read_feature_caps_untrusted",
    "read_features_untrusted",
    "read_reject_contacts_untrusted",
    "read_services_untrusted",
    "rejects",
]

Features = Mapping[str, frozenset[str]]
"""Tag in small letters → values; a flag has the value ``TRUE``."""

ICSI_TAG: Final = "+g.3gpp.icsi-ref"
IARI_TAG: Final = "+g.3gpp.iari-ref"
MMTEL: Final = "urn:urn-7:3gpp-service.ims.icsi.mmtel"
"""Multimedia telephony: voice calls."""
# base tags of RFC 3840 §9; all others begin with "+"
_BASE_TAGS: Final = frozenset(
    {
        "actor", "application", "audio", "automata", "class", "control", "data", "description", "duplex", "events",
        "extensions", "isfocus", "language", "methods", "mobility", "priority", "schemes", "sip", "text", "type",
        "video",
    }
)  # fmt: skip
_TRUE: Final = frozenset({"TRUE"})


def read_features_untrusted(params: Params) -> dict[str, frozenset[str]]:
    """The feature tags among header parameters. Values are lists in quotes; URNs in them are percent-encoded."""
    found: dict[str, frozenset[str]] = {}
    for name, raw in params[:MAX_VALUES]:
        tag = name.lower()
        if not tag.startswith("+") and tag not in _BASE_TAGS:
            continue
        text = param_value(raw)
        if not text:
            found[tag] = _TRUE
        elif text.startswith("<") and text.endswith(">"):
            found[tag] = frozenset({text[1:-1]})
        else:
            values = (percent_unquote(part.strip()) for part in text.split(",")[:MAX_VALUES])
            found[tag] = frozenset(value for value in values if value)
    return found


def format_features(features: Features) -> str:
    """As header parameters, each with its ";" in front."""
    text = ""
    for tag, values in features.items():
        encoded = ",".join(percent_quote(value, safe="!-._~") for value in sorted(values))
        text += f";{tag}" if values == _TRUE else f';{tag}="{encoded}"'
    return text


MMTEL_CONTACT_PARAM: Final = format_features({ICSI_TAG: frozenset({MMTEL})})
"""For the Contact of a user agent that does voice calls."""


def read_contact_features_untrusted(message: Message) -> dict[str, frozenset[str]]:
    """The feature tags of the first Contact; empty where it cannot be read."""
    addresses = read_addresses_untrusted(message, "Contact")
    return read_features_untrusted(addresses[0].params) if addresses else {}


# ---------------------------------------------------------------- services


def read_services_untrusted(message: Message) -> tuple[str, ...]:
    """The services that the request is for: asserted, else preferred, else those that Accept-Contact names."""
    for name in ("P-Asserted-Service", "P-Preferred-Service"):
        values = [value for value in message.headers.get_list(name)[:MAX_VALUES] if value]
        if values:
            return tuple(values)
    found = (
        value for each in read_accept_contacts_untrusted(message) for value in sorted(each.features.get(ICSI_TAG, ()))
    )
    return tuple(dict.fromkeys(found))


def is_service(value: str, service: str) -> bool:
    """Whether a service identifier is that service or a kind of it (``…mmtel.gsma.x`` is MMTel)."""
    value, service = value.lower(), service.lower()
    return value == service or value.startswith(f"{service}.")


# ---------------------------------------------------------------- caller preferences


@attrs.frozen(slots=True)
class ContactPreference:
    """One value of Accept-Contact or Reject-Contact."""

    features: Features
    require: bool = False
    explicit: bool = False


def read_accept_contacts_untrusted(message: Message) -> tuple[ContactPreference, ...]:
    return _preferences_of(message, "Accept-Contact")


def read_reject_contacts_untrusted(message: Message) -> tuple[ContactPreference, ...]:
    return _preferences_of(message, "Reject-Contact")


def _preferences_of(message: Message, name: str) -> tuple[ContactPreference, ...]:
    found = []
    for value in message.headers.get_list(name)[:MAX_VALUES]:
        star, _, rest = value.partition(";")
        if star.strip(" \t") != "*":
            continue
        params = read_params_untrusted(rest)
        flags = {each[0].lower() for each in params}
        found.append(ContactPreference(read_features_untrusted(params), "require" in flags, "explicit" in flags))
    return tuple(found)


def accepts(preferences: Iterable[ContactPreference], own: Features) -> bool:
    """Whether a contact with these features may take the request: every ``require`` value is met (§7.2.4)."""
    return all(_matches(each, own) for each in preferences if each.require)


def rejects(preferences: Iterable[ContactPreference], own: Features) -> bool:
    """Whether a Reject-Contact speaks against it: all its tags are known, and all match."""
    return any(
        each.features and all(tag in own for tag in each.features) and _matches(each, own) for each in preferences
    )


def _matches(preference: ContactPreference, own: Features) -> bool:
    for tag, wanted in preference.features.items():
        have = own.get(tag)
        if have is None:
            if preference.explicit:
                return False
            continue
        if not any(_has(value, tag, have) for value in wanted):
            return False
    return True


def _has(wanted: str, tag: str, have: frozenset[str]) -> bool:
    if wanted.startswith("!"):
        return not _has(wanted[1:], tag, have)
    if tag in (ICSI_TAG, IARI_TAG):
        return any(is_service(value, wanted) or is_service(wanted, value) for value in have)
    return wanted.lower() in {value.lower() for value in have}


def read_feature_caps_untrusted(message: Message) -> dict[str, frozenset[str]]:
    """What the nodes on the way can do (RFC 6809), all values together."""
    found: dict[str, frozenset[str]] = {}
    for value in message.headers.get_list("Feature-Caps")[:MAX_VALUES]:
        _, _, rest = value.partition(";")
        for tag, values in read_features_untrusted(read_params_untrusted(rest)).items():
            found[tag] = found.get(tag, frozenset()) | values
    return found
