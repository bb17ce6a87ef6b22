"""What the human who takes a call over is told with the INVITE: User-to-User (RFC 7433) and a Call-Info URL.

User-to-User carries the essentials in the message itself (it survives an ISDN gateway, so it is kept under 128 octets);
the URL gives transcript and reason in full from our HTTP API.  The call's id in it is 128 random bits.
"""

from __future__ import annotations

import json

__all__ = ["handover_headers"]

MAX_UUI_OCTETS = 128
"""RFC 7433 §6: what ISDN interworking carries."""


def handover_headers(call_id: str, reason: str, *, api_base: str | None) -> list[tuple[str, str]]:
    """reason: one word or short phrase; api_base: ``http://host:port`` of the API, None when it is off."""
    payload = json.dumps({"id": call_id, "reason": reason}, separators=(",", ":")).encode()
    while len(payload) > MAX_UUI_OCTETS:
        reason = reason[:-1]
        payload = json.dumps({"id": call_id, "reason": reason}, separators=(",", ":")).encode()
    headers = [("User-to-User", f"{payload.hex()};encoding=hex;purpose=ims-as-handover")]
    if api_base is not None:
        headers.append(("Call-Info", f"<{api_base}/calls/{call_id}>;purpose=info"))
    return headers
