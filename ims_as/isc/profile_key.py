"""P-Profile-Key (RFC 5002): the wildcarded identity under which the served user's profile is found in the HSS."""

from __future__ import annotations

from ims_as.isc.params import read_addresses_untrusted
from ims_as.sip.message import Message

__all__ = ["read_profile_key_untrusted"]


def read_profile_key_untrusted(message: Message) -> str | None:
    """As URI text, such as ``sip:room-!.*!@example.net``; None where there is none, or more than one."""
    found = read_addresses_untrusted(message, "P-Profile-Key")
    return found[0].uri_text if len(found) == 1 and "!" in found[0].uri_text else None
