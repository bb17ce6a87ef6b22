"""What the lab S-CSCF's criteria see of a request.  Its own reading, not the server's: two readings can disagree."""

from __future__ import annotations

from collections.abc import Iterator

from ifc.model import RegistrationType, SessionCase
from ifc.view import PlainRequestView
from ims_as.sip.errors import SdpError
from ims_as.sip.grammar import split_list
from ims_as.sip.headers import header_key
from ims_as.sip.message import Request
from ims_as.sip.sdp import parse_sdp_untrusted

__all__ = ["view_of"]

_SINGLE_VALUED = frozenset({"authorization", "date", "proxy-authorization", "server", "subject", "user-agent"})
"""Their commas separate nothing."""


def view_of(
    request: Request, session_case: SessionCase | None, registration_type: RegistrationType | None = None
) -> PlainRequestView:
    """The request as it is now; later changes do not show."""
    values: dict[str, list[str]] = {}
    for name, line in request.headers.items():
        key = header_key(name)
        parts = [line] if key in _SINGLE_VALUED else split_list(line) or [""]
        values.setdefault(key, []).extend(" ".join(part.split()) for part in parts)
    return PlainRequestView(
        method=request.method,
        request_uri=request.uri,
        session_case=session_case,
        header_map=values,
        sdp=tuple(_sdp_lines(request)),
        registration_type=registration_type,
    )


def _sdp_lines(request: Request) -> Iterator[tuple[str, str]]:
    if request.content_type != "application/sdp":
        return
    try:
        text = parse_sdp_untrusted(request.body).to_bytes().decode("utf-8", "replace")
    except SdpError:
        return
    for line in text.splitlines():
        letter, _, value = line.partition("=")
        yield letter, value
