"""Replaces (RFC 3891): an INVITE that takes the place of another dialog (attended transfer, call pick-up)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.sip.dialog import DialogId
from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import Params, find_param, parse_params
from ims_as.sip.message import Request

if TYPE_CHECKING:
    from ims_as.sip.invite_session import InviteSession

__all__ = ["Replaces", "find_replaced"]

MAX_CALL_ID_CHARS: Final = 512
"""Longer ones are not Call-IDs of ours or of anybody else."""
_NO_TAG: Final = "0"
"""§4: a tag of zero also stands for none at all (RFC 2543)."""


@attrs.frozen(slots=True)
class Replaces:
    """The header's value (§6.1). `to_tag` is the local tag of whoever receives it."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    def __str__(self) -> str:
        flag = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{flag}"

    @classmethod
    def parse_untrusted(cls, text: str) -> Replaces:
        """Read the value; raises SipParseError."""
        head, semicolon, rest = text.partition(";")
        call_id = head.strip(" \t")
        if not call_id or len(call_id) > MAX_CALL_ID_CHARS or any(char in call_id for char in ' \t",<>'):
            raise SipParseError("malformed Replaces")
        params = parse_params(semicolon + rest)
        return cls(
            call_id, _only(params, "to-tag"), _only(params, "from-tag"), find_param(params, "early-only") is not None
        )

    @classmethod
    def of(cls, dialog: DialogId, *, early_only: bool = False) -> Replaces:
        """For a REFER: whoever is called with it takes our place in that dialog, so the tags are the peer's view."""
        return cls(dialog.call_id, dialog.remote_tag or _NO_TAG, dialog.local_tag, early_only)

    def matches_remote(self, tag: str) -> bool:
        """Whether the peer's tag of a dialog is the one meant."""
        return self.from_tag == tag or (self.from_tag == _NO_TAG and not tag)


def _only(params: Params, name: str) -> str:
    values = [value for key, value in params if key.lower() == name]
    if len(values) != 1 or not values[0]:
        raise SipParseError("malformed Replaces")
    return values[0]


def find_replaced(
    request: Request, find_session: Callable[[tuple[str, str]], InviteSession | None]
) -> InviteSession | int | None:
    """The session that an INVITE is to replace (§3).

    Args:
        request: an INVITE outside of dialogs.
        find_session: by Call-ID and local tag.

    Returns:
        None when the request has no Replaces; a status to refuse it with: 400, 481 where there is no such dialog (or
        one that was not ours to replace yet), 486 for `early-only` where the call is answered, 603 where it is over.
    """
    lines = request.headers.get_all("replaces")
    if not lines:
        return None
    if len(lines) > 1 or "join" in request.headers:
        return 400
    try:
        wanted = Replaces.parse_untrusted(lines[0])
    except SipParseError:
        return 400
    session = find_session((wanted.call_id, wanted.to_tag))
    if session is None or not any(wanted.matches_remote(tag) for tag in session.remote_tags):
        return 481
    if session.is_terminated:
        return 603
    if session.is_answered:
        return 486 if wanted.early_only else session
    # an early dialog may be replaced only at the side that made it: the other has not answered anybody
    return session if session.is_caller else 481
