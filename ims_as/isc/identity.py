"""P-Asserted-Identity (RFC 3325, RFC 5876): who a user is, as the network vouches. A tel: URI stays a tel: URI."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote

import attrs

from ims_as.isc.params import read_addresses_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import quote
from ims_as.sip.message import Message
from ims_as.sip.uri import SipUri, TelUri, Uri, parse_uri

__all__ = ["Identity", "e164_number", "read_asserted_identities_untrusted"]

MAX_IDENTITIES: Final = 8
"""RFC 3325 allows two, a SIP and a tel URI; RFC 5876 leaves the door open."""
_SEPARATORS: Final = str.maketrans("", "", "-.() ")


@attrs.frozen(slots=True)
class Identity:
    uri: str
    """As written, without brackets."""
    display_name: str = ""

    def __str__(self) -> str:
        """As a header value."""
        return f"{quote(self.display_name)} <{self.uri}>" if self.display_name else f"<{self.uri}>"

    @property
    def number(self) -> str | None:
        """The E.164 number with its "+", where the URI is one."""
        return e164_number(self.uri)


def read_asserted_identities_untrusted(message: Message) -> tuple[Identity, ...]:
    """The readable values in order: the first is the one to show, a second is its number or its SIP form."""
    found = read_addresses_untrusted(message, "P-Asserted-Identity")[:MAX_IDENTITIES]
    return tuple(Identity(address.uri_text, address.display_name) for address in found)


def e164_number(uri: Uri | str) -> str | None:
    """The global number in a tel URI, or in a SIP URI whose user part is one; None for all else."""
    if isinstance(uri, str):
        try:
            uri = parse_uri(uri)
        except SipParseError:
            return None
    match uri:
        case TelUri():
            text = uri.digits
        case SipUri():
            text = unquote(uri.user).partition(";")[0].translate(_SEPARATORS)
        case _:
            return None
    digits = text[1:]
    return text if text[:1] == "+" and digits.isascii() and digits.isdigit() and len(digits) <= 15 else None
