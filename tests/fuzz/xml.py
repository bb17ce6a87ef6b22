"""What is left of a mutated document when a lenient reader has put it right."""

from __future__ import annotations

from lxml import etree

__all__ = ["canonical", "mend_xml"]


def mend_xml(data: bytes) -> bytes:
    """Well-formed XML; the input itself where nothing of it can be saved."""
    parser = etree.XMLParser(recover=True, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        return data
    return data if root is None else etree.tostring(root)


def canonical(xml: bytes | None) -> bytes | None:
    """One spelling for what means the same; not XML: as it is."""
    if xml is None:
        return None
    try:
        return etree.canonicalize(xml.decode()).encode()
    except (etree.XMLSyntaxError, ValueError):
        return xml
