"""The lab's subscribers: what an HSS knows of each user."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field
from lxml import etree

__all__ = ["IMS_STATE_AUTHENTICATION_PENDING", "IMS_STATE_NOT_REGISTERED", "Subscriber", "criteria_of"]

IMS_STATE_NOT_REGISTERED = 0
IMS_STATE_REGISTERED = 1
IMS_STATE_UNREGISTERED_SERVICES = 2
IMS_STATE_AUTHENTICATION_PENDING = 3


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@define(eq=False)
class Subscriber:
    """One user. All public identities form one implicit registration set and one alias set.

    Attributes:
        impi: private identity.
        impus: public identities, sip: and tel:; the first is the default one.
        repository: Service-Indication → service data (one XML element).
        ifcs: an `IFCs` element with the initial filter criteria.
        scscf_name: assigned S-CSCF, '' for none.
        state: IMSUserState 0..3.
        password: for digest authentication.
        sequences: Service-Indication → sequence number of each repository item.
        psi_activation: 1 active, 0 inactive; None: not a PSI.
        dsai: DSAI-Tag → 0 active, 1 inactive.
    """

    impi: str
    impus: tuple[str, ...] = field(converter=_strings)
    repository: dict[bytes, bytes] = field(factory=dict)
    ifcs: bytes = b"<IFCs/>"
    scscf_name: str = ""
    state: int = IMS_STATE_NOT_REGISTERED
    password: str = ""
    sequences: dict[bytes, int] = field(factory=dict)
    psi_activation: int | None = None
    dsai: dict[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for service_indication in self.repository:
            self.sequences.setdefault(service_indication, 0)

    @property
    def msisdns(self) -> tuple[str, ...]:
        """Digits of the tel: identities."""
        return tuple(impu[5:] for impu in self.impus if impu.startswith("tel:+"))

    def ims_subscription(self) -> bytes:
        """The user profile of Cx (TS 29.228 Annex E): every identity in one service profile."""
        root = etree.Element("IMSSubscription")
        etree.SubElement(root, "PrivateID").text = self.impi
        profile = etree.SubElement(root, "ServiceProfile")
        for impu in self.impus:
            identity = etree.SubElement(profile, "PublicIdentity")
            etree.SubElement(identity, "BarringIndication").text = "0"
            etree.SubElement(identity, "Identity").text = impu
        for criterion in criteria_of(self.ifcs):
            profile.append(criterion)
        return etree.tostring(root, encoding="UTF-8", xml_declaration=True)

    def ifcs_for(self, server_name: str) -> bytes:
        """The `IFCs` that point at that AS (TS 29.328 §7.6.8), compared by host and port."""
        wanted = _host_port(server_name)
        root = etree.Element("IFCs")
        for criterion in criteria_of(self.ifcs):
            name = _host_port(criterion.findtext("ApplicationServer/ServerName", ""))
            if name == wanted or (":" not in wanted and name.partition(":")[0] == wanted):
                root.append(criterion)
        return etree.tostring(root)


def criteria_of(ifcs: bytes) -> list[etree._Element]:
    """The InitialFilterCriteria of the lab's own XML, whatever element holds them."""
    root = etree.fromstring(ifcs, etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True))
    return list(root.iter("InitialFilterCriteria"))


def _host_port(uri: str) -> str:
    return uri.strip().partition(":")[2].partition(";")[0].rpartition("@")[2].lower()
