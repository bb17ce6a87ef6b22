"""What the served user wants of us: the repository data under our Service-Indication, and our own iFC.

Sh never delays a call past its budget and never fails one (failure doctrine F3): a cached profile, however old, beats
none, and with none the agent is the one that ``routing`` names.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import attrs
import trio

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

MAX_MEMOS: Final = 4096
"""Documents that were read lately: a user's next call costs no parsing, and many users have the same criteria."""
MAX_MEMO_BYTES: Final = 8192
"""Longer ones are read each time, which bounds what is kept at 64 MiB."""


@attrs.frozen
class UserProfile:
    settings: ServiceSettings = attrs.Factory(ServiceSettings)
    default_handling: DefaultHandling | None = None
    """Of the criterion that brings calls to us; None: not known."""
    scscf_name: str | None = None
    source: str = "none"
    """``cache``, ``hss``, ``stale`` or ``none``, with the reason where there is one."""
    failure: str | None = None
    """Why the HSS did not give what it was asked for."""


async def load_profile(
    client: ShClient | None,
    served_user: str,
    server_names: frozenset[str],
    *,
    wildcard: str | None = None,
    others: tuple[str, ...] = (),
) -> UserProfile:
    """The profile of the served user, within the client's budget; never raises because of the HSS.

    Args:
        wildcard: the wildcarded identity that the user falls under (P-Profile-Key): one profile for all that do.
        others: further identities of the user, for an HSS that does not know the first.
    """
    if client is None:
        return UserProfile(source="none: no HSS configured")
    asked_at = trio.current_time()
    source = "cache" if client.cached(served_user, wildcard=wildcard) is not None else "hss"
    try:
        found = await client.fetch(served_user, wildcard=wildcard, others=others)
    except ShUserUnknownError:
        return UserProfile(source="none: the HSS does not know the user")
    except ShError as error:
        return UserProfile(source=f"none: {error}", failure=str(error))
    failure = None
    if source == "hss" and found.fetched_at < asked_at:
        source = "stale"  # the HSS did not answer; what it said once is better than nothing
        failure = "no answer, or a refusal: the last known profile is used"
    settings = ServiceSettings() if not found.service_data else _settings_of(found.service_data)
    handling = None if not found.ifcs else _handling_of(found.ifcs, server_names)
    return UserProfile(settings, handling, found.scscf_name, source, failure)


def _settings_of(service_data: bytes) -> ServiceSettings:
    return (_read_settings if len(service_data) <= MAX_MEMO_BYTES else _read_settings.__wrapped__)(service_data)


def _handling_of(ifcs: bytes, server_names: frozenset[str]) -> DefaultHandling | None:
    return (_read_handling if len(ifcs) <= MAX_MEMO_BYTES else _read_handling.__wrapped__)(ifcs, server_names)


@lru_cache(MAX_MEMOS)
def _read_settings(service_data: bytes) -> ServiceSettings:
    try:
        return parse_service_settings_untrusted(service_data)
    except ValueError as error:
        return ServiceSettings(problems=(SettingProblem(DOCUMENT, str(error)),))


@lru_cache(MAX_MEMOS)
def _read_handling(ifcs: bytes, server_names: frozenset[str]) -> DefaultHandling | None:
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
