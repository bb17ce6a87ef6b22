"""Passing an INVITE on untouched, and recognising those that must never reach an agent (F1, F2).

As a proxy that does not record-route we are out of the call once it is answered; the Route after our own entry (with
the original dialog identifier) is kept byte for byte.
"""

from __future__ import annotations

import re

from ims_as.isc.resource_priority import has_priority
from ims_as.sip.message import Request

__all__ = ["exempt_reason"]

_EMERGENCY_URN = re.compile(r"urn:service:sos(\.|$)", re.IGNORECASE)
_CPC = re.compile(r";\s*cpc=(emergency|police|priority)\b", re.IGNORECASE)


def exempt_reason(request: Request) -> str | None:
    """Why this call is never diverted to an agent (emergency, priority), or None."""
    if _EMERGENCY_URN.match(request.uri):
        return "emergency"
    headers = request.headers
    priority = headers.get("Priority")
    if priority is not None and priority.strip().lower() in ("psap-callback", "emergency"):
        return "priority"
    if "Resource-Priority" in headers and has_priority(request):
        return "resource-priority"
    if any(_CPC.search(value) for value in headers.get_all("P-Asserted-Identity")):
        return "calling party category"
    return None
