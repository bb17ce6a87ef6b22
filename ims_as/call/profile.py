"""What the served user wants of us: the repository data under our Service-Indication, and our own iFC.

Sh never delays a call past its budget and never fails one (failure doctrine F3): a cached profile, however old, beats
none, and with none the agent is the one that ``routing`` names.
"""

from __future__ import annotations

import attrs

from diameter.sh.client import ShClient
from diameter.sh.errors import ShError, ShUserUnknownError
from ifc.model import DefaultHandling
from ifc.parser import IfcError, parse_criteria_untrusted
from ims_as.call.service_settings import (
    DOCUMENT,
    ServiceSettings,
    SettingProblem,
    parse_service_settings_untrusted,
)

__all__ = ["UserProfile", "load_profile"]


@attrs.frozen
class UserProfile:
    settings: ServiceSettings = attrs.Factory(ServiceSettings)
    default_handling: DefaultHandling | None = None
    """Of the criterion that brings calls to us; None: not known."""
    scscf_name: str | None = None
    source: str = "none"
    """``cache``, ``hss``, ``stale`` or ``none``, with the reason where there is one."""


async def load_profile(client: ShClient | None, served_user: str, server_names: frozenset[str]) -> UserProfile:
    """The profile of the served user, within the client's budget; never raises because of the HSS."""
    if client is None:
        return UserProfile(source="none: no HSS configured")
    source = "cache" if client.cached(served_user) is not None else "hss"
    try:
        found = await client.fetch(served_user)
    except ShUserUnknownError:
        return UserProfile(source="none: the HSS does not know the user")
    except ShError as error:
        return UserProfile(source=f"none: {error}")
    if client.cached(served_user) is None:
        source = "stale"  # the HSS did not answer; what it said once is better than nothing
    settings = ServiceSettings()
    if found.service_data:
        try:
            settings = parse_service_settings_untrusted(found.service_data)
        except ValueError as error:
            settings = ServiceSettings(problems=(SettingProblem(DOCUMENT, str(error)),))
    return UserProfile(settings, _own_default_handling(found.ifcs, server_names), found.scscf_name, source)


def _own_default_handling(ifcs: bytes | None, server_names: frozenset[str]) -> DefaultHandling | None:
    if not ifcs:
        return None
    try:
        criteria = parse_criteria_untrusted(ifcs).criteria
    except IfcError:
        return None
    own = [each.application_server for each in criteria if host_of(each.application_server.server_name) in server_names]
    # asked with our Server-Name an HSS answers our criteria only; some answer all, some spell our name otherwise
    candidates = own or ([criteria[0].application_server] if len(criteria) == 1 else [])
    for server in candidates:
        if server.default_handling is DefaultHandling.SESSION_TERMINATED:
            return DefaultHandling.SESSION_TERMINATED
    return DefaultHandling.SESSION_CONTINUED if candidates else None


def host_of(uri: str) -> str:
    """The host of a SIP URI in lower case, without port and parameters."""
    rest = uri.split(":", 1)[-1].split(";", 1)[0].rsplit("@", 1)[-1]
    if rest.startswith("["):
        return rest.split("]", 1)[0].lower() + "]"
    return rest.split(":", 1)[0].lower()
