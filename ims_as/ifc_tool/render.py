"""Criteria → what an HSS takes: the XML of TS 29.228 Annex E, and what PyHSS, FHoSS and Open5GS keep.

What a target cannot hold is refused, or told as a warning where users lose nothing by it; nothing is left out silently.
XML is read again and must mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import attrs

from ifc.model import ImsSubscription, PublicIdentity, ServiceProfile
from ifc.parser import parse_criteria_untrusted
from ifc.writer import write_criteria, write_subscription
from ims_as.ifc_tool.description import Description, DescriptionError, Problem, write_description
from ims_as.ifc_tool.render_fhoss import render_fhoss
from ims_as.ifc_tool.render_open5gs import render_open5gs

__all__ = ["Format", "Options", "Rendered", "render"]

_JINJA = ("{{", "{%", "{#")


class Format(Enum):
    XML = "xml"
    """<IFCs>, or <IMSSubscription> for a description with a user."""
    PYHSS = "pyhss"
    """The template file that ``ifc_path`` names."""
    FHOSS = "fhoss"
    """SQL for the database ``hss_db`` of FHoSS (OpenIMSCore)."""
    OPEN5GS = "open5gs"
    """A script for mongosh, for the collection ``subscribers``."""
    YAML = "yaml"
    """The description itself."""


@attrs.frozen
class Options:
    """What only some targets ask for."""

    name: str = "ims-as"
    """FHoSS: service profile, and what the names of its rows begin with; at most 16 characters."""
    origin_host: str | None = None
    """FHoSS: by which Diameter identity the application server is known on Sh."""


@attrs.frozen
class Rendered:
    text: str
    warnings: tuple[Problem, ...] = ()


def render(description: Description, output: Format, options: Options | None = None) -> Rendered:
    """The document.  Raises DescriptionError for what that format cannot hold."""
    options = options or Options()
    match output:
        case Format.YAML:
            return Rendered(write_description(description))
        case Format.FHOSS:
            text, warnings = render_fhoss(description, name=options.name, origin_host=options.origin_host)
            return Rendered(text, warnings)
        case Format.OPEN5GS:
            return Rendered(*render_open5gs(description))
    try:
        text = _xml(description) if output is Format.XML else _pyhss(description)
    except ValueError as error:
        raise DescriptionError([description.problem("", f"not fit for XML: {error}")]) from error
    read = parse_criteria_untrusted(text.encode())
    wanted = tuple(sorted(description.criteria, key=lambda criterion: criterion.priority))
    if read.problems or read.criteria != wanted:
        told = "; ".join(map(str, read.problems)) or "it reads as other criteria"
        raise DescriptionError([description.problem("", f"what was rendered cannot be read back: {told}")])
    return Rendered(text)


def _xml(description: Description) -> str:
    if description.private_identity is None:
        return write_criteria(description.criteria).decode()
    return _subscription(description, description.private_identity, description.public_identities)


def _subscription(description: Description, private: str, public: Sequence[str]) -> str:
    identities = tuple(PublicIdentity(identity) for identity in public)
    profile = ServiceProfile(identities, description.criteria)
    return write_subscription(ImsSubscription(private, (profile,))).decode()


def _pyhss(description: Description) -> str:
    """PyHSS puts the subscriber into a Jinja2 template; with a user in the description nothing is left to put in."""
    for index, criterion in enumerate(description.criteria):
        text = write_criteria([criterion]).decode()
        if any(mark in text for mark in _JINJA):
            problem = description.problem(f"criteria[{index}]", f"{' or '.join(_JINJA)} would be taken for Jinja2")
            raise DescriptionError([problem])
    if description.private_identity is not None:
        return _subscription(description, description.private_identity, description.public_identities)
    imsi, msisdn, mnc, mcc = (f"{{{{ iFC_vars['{name}'] }}}}" for name in ("imsi", "msisdn", "mnc", "mcc"))
    domain = f"ims.mnc{mnc}.mcc{mcc}.3gppnetwork.org"
    public = (f"sip:{msisdn}@{domain}", f"sip:{imsi}@{domain}", f"tel:{msisdn}")
    return _subscription(description, f"{imsi}@{domain}", public)
