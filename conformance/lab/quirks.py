"""What real HSSes do other than the specifications say, one name each; any of them can be combined.

They were measured on PyHSS (``docs/interop-hss.md`` says what each one is and what ims-as does about it). Here: the
names, and the forms that messages and documents take. `hss_quirks` puts them in front of the lab's HSS.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from attrs import evolve
from lxml import etree

from conformance.lab.subscribers import Subscriber
from diameter.avp import Avp, Avps
from diameter.base_commands import CX_APPLICATION, Application
from diameter.dictionary import base
from diameter.dictionary.base import VENDOR_3GPP
from diameter.dictionary.sh import SH
from diameter.message import Message

__all__ = ["PYHSS", "Quirk", "parse_quirks", "shape_answer", "shape_user_data"]


class Quirk(StrEnum):
    """One deviation. The value is its name on the command line."""

    WHOLE_SH_DATA = "whole-sh-data"
    """The same whole document whatever was asked: reference, Service-Indication and Server-Name are not looked at."""
    FOREIGN_ELEMENTS = "foreign-elements"
    """Elements of no specification, others misspelt or out of order."""
    NO_REPOSITORY = "no-repository"
    """No RepositoryData in any document."""
    NO_PUR_ANSWER = "no-pur-answer"
    """PUR is answered only when its User-Name is the bare IMSI."""
    PUR_UNCHECKED = "pur-unchecked"
    """PUR stores whatever its sequence number is."""
    PUR_CUT = "pur-cut"
    """What a PUR carries behind 8192 bytes of message is lost; the answer is 2001."""
    NO_SNR_ANSWER = "no-snr-answer"
    NO_PNR = "no-pnr"
    NO_REASSEMBLY = "no-reassembly"
    """A message that does not come whole with one read is lost."""
    BARE_5001 = "bare-5001"
    """An unknown user is an Experimental-Result alone: no Result-Code, no application, no session state."""
    NUMBERS_ONLY = "numbers-only"
    """Users are known by ``sip:<msisdn>@``, ``sip:<imsi>@`` and MSISDN; not by tel:, an alias or ``sip:+``."""
    SLOW = "slow"
    """Answers go out 100 ms after the first request of a batch, together."""
    RESULT_LAST = "result-last"
    """AVPs of answers in another order, Result-Code last."""
    WRONG_APPLICATION = "wrong-application"
    """Vendor-Specific-Application-Id of Sh answers says Cx."""
    MANY_APPLICATIONS = "many-applications"
    """The CEA lists Sh among S6a, Cx, S13, SLh, Rx and Gx."""
    NO_DWR = "no-dwr"
    """It never asks whether we are alive."""


PYHSS = frozenset(Quirk)
"""All of them together are the HSS that they were measured on."""

MORE_APPLICATIONS = tuple(
    Application(number, VENDOR_3GPP) for number in (16777251, 16777252, 16777291, 16777236, 16777238)
)
"""S6a, S13, SLh, Rx, Gx."""
PUR_BYTES = 8192
BATCH_S = 0.1

_USER_DATA = SH["User-Data"]
_VSAI = base.VENDOR_SPECIFIC_APPLICATION_ID
_BARE = frozenset({base.SESSION_ID.key, base.ORIGIN_HOST.key, base.ORIGIN_REALM.key, base.EXPERIMENTAL_RESULT.key})
_LAST_ORDER = (
    base.SESSION_ID.key,
    base.ORIGIN_HOST.key,
    base.ORIGIN_REALM.key,
    base.AUTH_SESSION_STATE.key,
    _VSAI.key,
    _USER_DATA.key,
)
_FOREIGN_IMS = (
    ("InboundCommunicationBarred", "False"),
    ("OutboundCommunicationBarred", "False"),
    ("CallForwardUnconditionalTarget", "sip:elsewhere@example.net"),
    ("CallForwardUnconditionalCondition", ""),
    ("CallForwardNoReplyTimer", "20"),
)


def parse_quirks(names: Iterable[str]) -> frozenset[Quirk]:
    """Names as on the command line; ``pyhss`` is all of them.

    Raises:
        ValueError: no such quirk.
    """
    found: set[Quirk] = set()
    for name in names:
        found |= PYHSS if name == "pyhss" else {Quirk(name)}
    return frozenset(found)


def shape_answer(answer: Message, subscriber: Subscriber | None, quirks: frozenset[Quirk]) -> Message:
    """An answer of the Sh side as the quirks want it."""
    avps = [_shape_avp(avp, subscriber, quirks) for avp in answer.avps]
    if Quirk.BARE_5001 in quirks and answer.avps.find(base.EXPERIMENTAL_RESULT.key) is not None:
        avps = [avp for avp in avps if avp.key in _BARE]
    if Quirk.RESULT_LAST in quirks:
        order = {key: place for place, key in enumerate(_LAST_ORDER)}
        avps.sort(key=lambda avp: order.get(avp.key, len(order) + (avp.key == base.RESULT_CODE.key)))
    return evolve(answer, avps=Avps(avps))


def shape_user_data(xml: bytes, subscriber: Subscriber | None, quirks: frozenset[Quirk]) -> bytes:
    """A Sh-Data document of the lab as the quirks want it."""
    root = etree.fromstring(xml)
    if Quirk.NO_REPOSITORY in quirks:
        for item in root.findall("RepositoryData"):
            root.remove(item)
    if Quirk.FOREIGN_ELEMENTS in quirks:
        _disfigure(root, subscriber)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True, standalone=True)


def _shape_avp(avp: Avp, subscriber: Subscriber | None, quirks: frozenset[Quirk]) -> Avp:
    if avp.key == _USER_DATA.key:
        return evolve(avp, data=shape_user_data(avp.data, subscriber, quirks))
    if avp.key == _VSAI.key and Quirk.WRONG_APPLICATION in quirks:
        return CX_APPLICATION.avp()
    return avp


def _disfigure(root: etree._Element, subscriber: Subscriber | None) -> None:
    ims = root.find("Sh-IMS-Data")
    if ims is not None:
        for name in ims.findall("SCSCFName"):
            name.tag = "S-CSCFName"
        for tag, text in _FOREIGN_IMS:
            etree.SubElement(ims, tag).text = text
    location = etree.Element("Extension")
    place = etree.SubElement(location, "EPSLocationInformation")
    etree.SubElement(place, "E-UTRANCellGlobalId")
    etree.SubElement(place, "MMEName").text = "mme01"
    etree.SubElement(etree.SubElement(place, "Extension"), "VisitedPLMNID")
    # before Sh-IMS-Data, where the schema wants it last
    root.insert(1 if root.find("PublicIdentifiers") is not None else 0, location)
    private = etree.Element("IMSPrivateUserIdentity")
    private.text = subscriber.impi if subscriber is not None else ""
    root.insert(0, private)
