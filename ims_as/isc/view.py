"""Request → what initial filter criteria ask about (`ifc.view.RequestView`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ifc.model import RegistrationType, SessionCase
from ims_as.sip.body import read_parts_untrusted
from ims_as.sip.grammar import split_list
from ims_as.sip.message import Request

__all__ = ["NOT_LISTS", "SipRequestView"]

MAX_SDP_LINES = 500
"""Lines looked at; a description with more is not an offer that anybody makes."""

NOT_LISTS = frozenset(
    {
        "authentication-info", "authorization", "call-id", "content-disposition", "content-length", "content-type",
        "cseq", "date", "event", "expires", "from", "join", "max-forwards", "mime-version", "organization",
        "p-charging-vector", "p-served-user", "priority", "proxy-authenticate", "proxy-authorization", "refer-to",
        "referred-by", "replaces", "reply-to", "retry-after", "server", "session-expires", "session-id", "subject",
        "to", "user-agent", "www-authenticate",
    }
)  # fmt: skip
"""Headers that are no lists by their grammar, though a comma may stand in them."""


class SipRequestView:
    """One request as the criteria see it; reads it once, so it must not change while the view is in use.

    Compact header names are written out, comma-separated lists taken apart, white space normalised.
    """

    def __init__(
        self,
        request: Request,
        session_case: SessionCase | None = None,
        *,
        registration_type: RegistrationType | None = None,
    ) -> None:
        self.method = request.method
        self.request_uri = request.uri
        self.session_case = session_case
        self.registration_type = registration_type
        self._request = request
        self.values_read: dict[str, tuple[str, ...]] = {}
        self._names: tuple[str, ...] | None = None
        self._sdp: tuple[tuple[str, str], ...] | None = None

    def header_values(self, name_lower: str) -> Sequence[str]:
        """Values one by one; ``("",)`` for a header without value, empty for an absent one."""
        values = self.values_read.get(name_lower)
        if values is None:
            values = self.values_read[name_lower] = self._read(name_lower)
        return values

    def header_names(self) -> tuple[str, ...]:
        """Full names in lower case, each once."""
        if self._names is None:
            self._names = tuple(self._request.headers.indexed())
        return self._names

    def headers(self) -> Iterable[tuple[str, Sequence[str]]]:
        """(full name in lower case, values), each name once."""
        return ((name, self.header_values(name)) for name in self.header_names())

    def sdp_lines(self) -> Sequence[tuple[str, str]]:
        """(type letter, value) of each line of the application/sdp body or body part."""
        if self._sdp is None:
            self._sdp = tuple(self._read_sdp())
        return self._sdp

    def _read(self, name: str) -> tuple[str, ...]:
        lines = self._request.headers.indexed().get(name, ())
        values: list[str] = []
        for line in (lines,) if isinstance(lines, str) else lines:
            parts = [line] if "," not in line or name in NOT_LISTS else split_list(line) or [""]
            if not line.isprintable() or "  " in line or line[:1] == " " or line[-1:] == " ":
                parts = [" ".join(part.split()) for part in parts]
            values += parts
        return tuple(values)

    def _read_sdp(self) -> Iterable[tuple[str, str]]:
        for part in read_parts_untrusted(self._request):
            if part.content_type == "application/sdp":
                for line in part.body.split(b"\n", MAX_SDP_LINES)[:MAX_SDP_LINES]:
                    letter, equals, value = line.decode("utf-8", "replace").rstrip("\r").partition("=")
                    if equals:
                        yield letter, value
                return
