"""Privacy (RFC 3323, RFC 3325 §9.3, RFC 7044 §10.1): what of the caller may be shown, and to whom.

Inside the trust domain everything stays as it came: privacy is done at its edge. For us the edge is the AI engine with
all that it writes (transcripts), and peers that are not trusted. Charging records keep the true identity.
"""

from __future__ import annotations

from typing import Final

import attrs

from ims_as.isc.identity import Identity, read_asserted_identities_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Message

__all__ = ["ANONYMOUS", "Privacy", "read_privacy_untrusted", "visible_caller"]

ANONYMOUS: Final = Identity("sip:anonymous@anonymous.invalid", "Anonymous")
"""RFC 3323 §4.1.1.3."""


@attrs.frozen(slots=True)
class Privacy:
    """The priv-values, in small letters."""

    values: frozenset[str] = frozenset()

    @property
    def is_refused(self) -> bool:
        """``none``: the user wants no privacy, also none that is given by default."""
        return "none" in self.values

    @property
    def hides_identity(self) -> bool:
        """Who the user is: ``id`` for the asserted identity, ``user`` and ``header`` for what names it elsewhere."""
        return not self.is_refused and not self.values.isdisjoint(("id", "user", "header"))

    @property
    def hides_history(self) -> bool:
        """Whose the call was before."""
        return not self.is_refused and not self.values.isdisjoint(("history", "header"))


def read_privacy_untrusted(message: Message) -> Privacy:
    """All values of Privacy; separated by ";", and by "," in some stacks."""
    values = (
        value.strip(" \t").lower()
        for line in message.headers.get_all("Privacy")[:8]
        for value in line.replace(",", ";").split(";")[:16]
    )
    return Privacy(frozenset(value for value in values if value))


def visible_caller(message: Message) -> Identity:
    """The caller as somebody outside of the trust domain may see it: asserted identity, else From, or `ANONYMOUS`."""
    if read_privacy_untrusted(message).hides_identity:
        return ANONYMOUS
    asserted = read_asserted_identities_untrusted(message)
    if asserted:
        return asserted[0]
    try:
        sender = message.from_
    except SipParseError:
        return ANONYMOUS
    return Identity(sender.uri_text, sender.display_name)
