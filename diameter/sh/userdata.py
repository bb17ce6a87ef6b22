"""Sh-Data, the XML of the User-Data AVP (TS 29.328 Annex C and D): tolerant reader, strict writer.

Reading goes by element name at any depth of `Extension`, ignores what it does not know (real HSSes put names of their
own into Sh-IMS-Data), and keeps ServiceData and IFCs as XML bytes: what they mean is not this library's business. The
document may be hostile: no DTD, no entities, no network, bounded size and depth.

Writing follows the order of the schema exactly: PublicIdentifiers, RepositoryData, Sh-IMS-Data, Extension.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen
from lxml import etree

from diameter.dictionary.sh import ShResultCode
from diameter.errors import LocalDiameterError, RemoteDiameterError

__all__ = [
    "MAX_USER_DATA_BYTES",
    "RepositoryData",
    "ShData",
    "parse_sh_data_untrusted",
    "write_repository_data",
    "write_sh_data",
]

# a profile with dozens of iFCs has some ten kB; HSSes cut or refuse repository data far below this
MAX_USER_DATA_BYTES = 256 * 1024
# the deepest standard element (UE-5G-SRVCC-Capability) sits ten levels down; iFCs and service data need few more
MAX_DEPTH = 48
# bounds the nodes that one document makes us create: the densest real profiles have a few thousand
MAX_ELEMENTS = 20_000

_MAX_SEQUENCE_NUMBER = 65535
# misprints that TS 29.328 tables have passed on to implementations, and names of poor HSSes
_SYNONYMS = {
    "Extention": "Extension",
    "Sh-Data-Extension": "Extension",
    "Sh-IMS-Data-Extension": "Extension",
    "RegisteredIdentites": "RegisteredIdentities",
    "S-CSCFName": "SCSCFName",
}


@frozen
class RepositoryData:
    """One repository item.

    Attributes:
        service_indication: its key, as in the Service-Indication AVP.
        sequence_number: 0..65535.
        service_data: the element inside ServiceData as XML; None: the item is (to be) deleted, or never existed.
    """

    service_indication: bytes
    sequence_number: int
    service_data: bytes | None


@frozen
class ShData:
    """What a Sh-Data document says, as far as we use it. None or (): not in the document.

    Attributes:
        public_identities: IMPUs of PublicIdentifiers and of the identity sets except deleted ones.
        alias_identities: those of AliasIdentities and ImplicitIdentities.
        deleted_identities: IMPUs that are gone.
        msisdns: digits.
        repository: items.
        scscf_name: S-CSCF URI; '' where the element is empty (nobody assigned).
        ifcs: the whole `IFCs` element as XML.
        user_state: IMSUserState 0..3.
        charging: charging function names by element name.
        psi_activation: 1 active.
        dsai: (tag, value) pairs, value 0 = active.
    """

    public_identities: tuple[str, ...] = ()
    alias_identities: tuple[str, ...] = ()
    deleted_identities: tuple[str, ...] = ()
    msisdns: tuple[str, ...] = ()
    repository: tuple[RepositoryData, ...] = ()
    scscf_name: str | None = None
    ifcs: bytes | None = None
    user_state: int | None = None
    charging: tuple[tuple[str, str], ...] = ()
    psi_activation: int | None = None
    dsai: tuple[tuple[str, int], ...] = ()

    def find_repository(self, service_indication: bytes) -> RepositoryData | None:
        """The item of that Service-Indication; HSSes may send more than was asked for."""
        return next((item for item in self.repository if item.service_indication == service_indication), None)


def parse_sh_data_untrusted(xml: bytes) -> ShData:
    """Reads a Sh-Data document.

    Raises:
        RemoteDiameterError: 3GPP experimental 5100 as `result_code`: too large or deep, a DTD, not well-formed, or
            another root element. A single value that makes no sense is left out instead.
    """
    root = _parse_untrusted(xml)
    if _name(root) != "Sh-Data":
        raise _not_recognized("root element is not Sh-Data")
    identities: list[str] = []
    aliases: list[str] = []
    deleted: list[str] = []
    msisdns: list[str] = []
    repository: list[RepositoryData] = []
    charging: list[tuple[str, str]] = []
    dsai: list[tuple[str, int]] = []
    scscf_name: str | None = None
    ifcs: bytes | None = None
    user_state: int | None = None
    psi_activation: int | None = None
    for element in _flat(root):
        match _name(element):
            case "PublicIdentifiers" | "RegisteredIdentities" | "AllIdentities":
                identities += _texts(element, "IMSPublicIdentity")
                msisdns += _texts(element, "MSISDN")
            case "ImplicitIdentities" | "AliasIdentities":
                found = _texts(element, "IMSPublicIdentity")
                identities += found
                aliases += found
            case "DeletedIdentities":
                deleted += _texts(element, "IMSPublicIdentity")
            case "RepositoryData":
                item = _read_repository(element)
                if item is not None:
                    repository.append(item)
            case "Sh-IMS-Data":
                for part in _flat(element):
                    match _name(part):
                        case "SCSCFName":
                            scscf_name = _text(part)
                        case "IFCs":
                            ifcs = _serialise(part)
                        case "IMSUserState":
                            user_state = _number(part)
                        case "ChargingInformation":
                            charging += [(_name(child), _text(child)) for child in _children(part)]
                        case "PSIActivation":
                            psi_activation = _number(part)
                        case "DSAI":
                            tag, value = _child_text(part, "DSAI-Tag"), _child_text(part, "DSAI-Value")
                            if tag and value in ("0", "1"):
                                dsai.append((tag, int(value)))
    return ShData(
        _unique(identities),
        _unique(aliases),
        tuple(deleted),
        _unique(msisdns),
        tuple(repository),
        scscf_name,
        ifcs,
        user_state,
        tuple(charging),
        psi_activation,
        tuple(dsai),
    )


def write_repository_data(service_indication: bytes, sequence_number: int, service_data: bytes | None) -> bytes:
    """User-Data of a PUR for one repository item; `service_data` None deletes it.

    Raises:
        LocalDiameterError: as `write_sh_data`.
    """
    return write_sh_data(ShData(repository=(RepositoryData(service_indication, sequence_number, service_data),)))


def write_sh_data(data: ShData) -> bytes:
    """The document in schema order, UTF-8 with XML declaration.

    Raises:
        LocalDiameterError: a number out of range, or service data or iFCs that are not one well-formed element.
    """
    root = etree.Element("Sh-Data")
    if data.public_identities or data.msisdns:
        identifiers = etree.SubElement(root, "PublicIdentifiers")
        _write_texts(identifiers, "IMSPublicIdentity", data.public_identities)
        _write_texts(identifiers, "MSISDN", data.msisdns)
    for item in data.repository:
        if not 0 <= item.sequence_number <= _MAX_SEQUENCE_NUMBER:
            raise LocalDiameterError("sequence number out of range")
        element = etree.SubElement(root, "RepositoryData")
        _write_texts(element, "ServiceIndication", (_utf8(item.service_indication),))
        _write_texts(element, "SequenceNumber", (str(item.sequence_number),))
        if item.service_data is not None:
            etree.SubElement(element, "ServiceData").append(_embed(item.service_data))
    _write_ims_data(root, data)
    if data.alias_identities or data.deleted_identities:
        extension = etree.SubElement(root, "Extension")
        if data.alias_identities:
            _write_texts(etree.SubElement(extension, "AliasIdentities"), "IMSPublicIdentity", data.alias_identities)
        if data.deleted_identities:
            inner = etree.SubElement(etree.SubElement(extension, "Extension"), "DeletedIdentities")
            _write_texts(inner, "IMSPublicIdentity", data.deleted_identities)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _write_ims_data(root: etree._Element, data: ShData) -> None:
    ims = etree.Element("Sh-IMS-Data")
    if data.scscf_name is not None:
        _write_texts(ims, "SCSCFName", (data.scscf_name,))
    if data.ifcs is not None:
        ifcs = _embed(data.ifcs)
        if _name(ifcs) != "IFCs":
            raise LocalDiameterError("iFCs want an IFCs element")
        ims.append(ifcs)
    if data.user_state is not None:
        _write_texts(ims, "IMSUserState", (str(data.user_state),))
    if data.charging:
        charging = etree.SubElement(ims, "ChargingInformation")
        for name, value in data.charging:
            _write_texts(charging, name, (value,))
    if data.psi_activation is not None or data.dsai:
        extension = etree.SubElement(ims, "Extension")
        if data.psi_activation is not None:
            _write_texts(extension, "PSIActivation", (str(data.psi_activation),))
        inner = etree.SubElement(extension, "Extension") if data.dsai else extension
        for tag, activation in data.dsai:
            element = etree.SubElement(inner, "DSAI")
            _write_texts(element, "DSAI-Tag", (tag,))
            _write_texts(element, "DSAI-Value", (str(activation),))
    if len(ims):
        root.append(ims)


def _parse_untrusted(xml: bytes) -> etree._Element:
    if len(xml) > MAX_USER_DATA_BYTES:
        raise _not_recognized("Sh-Data too large")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(xml, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise _not_recognized("Sh-Data is not well-formed") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise _not_recognized("Sh-Data with a DTD")
    depth = 0
    for n_elements, (event, _) in enumerate(etree.iterwalk(root, events=("start", "end"))):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH or n_elements > 2 * MAX_ELEMENTS:
            raise _not_recognized("Sh-Data too deep or too many elements")
    return root


def _not_recognized(reason: str) -> RemoteDiameterError:
    return RemoteDiameterError(reason, ShResultCode.USER_DATA_NOT_RECOGNIZED)


def _name(element: etree._Element) -> str:
    """Local name, spelled as the specification does."""
    tag = element.tag
    if not isinstance(tag, str):
        return ""  # an entity reference: left unresolved on purpose
    local = tag.rpartition("}")[2]
    return _SYNONYMS.get(local, local)


def _children(element: etree._Element) -> Iterator[etree._Element]:
    return (child for child in element if isinstance(child.tag, str))


def _flat(element: etree._Element) -> Iterator[etree._Element]:
    """Children, with those of nested Extension elements in their place. Depth is bounded by the parser."""
    for child in _children(element):
        if _name(child) == "Extension":
            yield from _flat(child)
        else:
            yield child


def _text(element: etree._Element) -> str:
    # XML white space only: str.strip() would take a no-break space of the value as well
    return (element.text or "").strip(" \t\r\n")


def _texts(element: etree._Element, name: str) -> list[str]:
    return [text for child in _flat(element) if _name(child) == name and (text := _text(child))]


def _child_text(element: etree._Element, name: str) -> str:
    return next((_text(child) for child in _children(element) if _name(child) == name), "")


def _number(element: etree._Element) -> int | None:
    text = _text(element)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else None


def _read_repository(element: etree._Element) -> RepositoryData | None:
    service_indication = _child_text(element, "ServiceIndication")
    number = next((_number(child) for child in _children(element) if _name(child) == "SequenceNumber"), 0)
    if not service_indication or number is None or number > _MAX_SEQUENCE_NUMBER:
        return None
    service_data: bytes | None = None
    for child in _children(element):
        if _name(child) == "ServiceData":
            inner = next(_children(child), None)
            # some HSSes keep plain text: it is given as it stands
            service_data = _serialise(inner) if inner is not None else _text(child).encode()
    return RepositoryData(service_indication.encode(), number, service_data or None)


def _serialise(element: etree._Element) -> bytes:
    """The element as UTF-8 with the namespaces that it uses, without declaration."""
    return etree.tostring(element, encoding="unicode", with_tail=False).encode()


def _unique(texts: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _utf8(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise LocalDiameterError("Service-Indication is not UTF-8") from None


def _write_texts(parent: etree._Element, name: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            etree.SubElement(parent, name).text = text
        except ValueError as error:
            raise LocalDiameterError(f"{name}: not XML text") from error


def _embed(xml: bytes) -> etree._Element:
    try:
        return _parse_untrusted(xml)
    except RemoteDiameterError as error:
        raise LocalDiameterError(f"not one well-formed element: {error.reason}") from None
