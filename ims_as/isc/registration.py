"""Third-party REGISTER: the S-CSCF tells us of a user's registration (TS 24.229 clauses 5.4.1.7 and 5.7.1.1).

From and Contact are the S-CSCF, To is the user.  Each one may come with a new Call-ID and the same CSeq, so To is the
only key.  The answer is 200 with the same Expires whatever happens: an error, or none, would make the S-CSCF
de-register the user where the criterion says SESSION_TERMINATED.

The identities that are registered together with the one in To (the implicit set) lead to the same registration, unless
they have one of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from ims_as.isc.registration_reader import (
    DEFAULT_EXPIRES_S,
    RegisteredContact,
    Registration,
    read_expires_untrusted,
    read_registration_untrusted,
    tag_for,
)
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.uri import SipUri, TelUri, parse_uri

__all__ = ["DEFAULT_EXPIRES_S", "RegisteredContact", "Registration", "RegistrationTable", "describe", "impu_key"]

MAX_REGISTRATIONS = 200_000
MAX_KEPT_BYTES = 256 * 1024 * 1024
"""Of service information, embedded messages and implicit sets, all registrations together."""
MAX_KEY_CHARS = 2048


class RegistrationTable:
    """Registrations by public identity.  Bounded: beyond the limits those refreshed longest ago go first."""

    def __init__(self, *, max_registrations: int = MAX_REGISTRATIONS, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max_registrations = max_registrations
        self._max_kept_bytes = max_kept_bytes
        self._registrations: dict[str, Registration] = {}
        self._aliases: dict[str, str] = {}
        """Key of an identity of an implicit set → key of the registration."""
        self._kept_bytes = 0
        self.evicted = 0
        """Registrations dropped for want of room."""

    def __len__(self) -> int:
        return len(self._registrations)

    def receive_register(self, request: Request, *, now: float) -> Response:
        """Store what the REGISTER says and build its answer, always 200.

        Args:
            now: seconds, on any clock that the caller also uses for `get`.
        """
        expires_s, problem = read_expires_untrusted(request)
        key = impu_key(request.to.uri_text)
        previous = self._live(key, now)
        self._remove(key)
        if expires_s > 0:
            self._drop_expired(now)
            problems = [] if problem is None else [problem]
            self._store(
                key, read_registration_untrusted(request, expires_s, now=now, previous=previous, problems=problems)
            )
        return build_response(request, 200, to_tag=tag_for(request), headers=[("Expires", str(expires_s))])

    def get(self, impu: str, *, now: float) -> Registration | None:
        """The registration of a public identity, or of the implicit set that it is in, unless it has run out."""
        key = impu_key(impu)
        registration = self._live(key, now)
        if registration is None and key in self._aliases:
            registration = self._live(self._aliases[key], now)
        return registration

    def all(self, *, now: float, limit: int) -> list[Registration]:
        """Those that have not run out, the one refreshed last first."""
        found: list[Registration] = []
        for registration in reversed(self._registrations.values()):
            if len(found) >= limit:
                break
            if registration.expires_at > now:
                found.append(registration)
        return found

    def update(
        self,
        impu: str,
        *,
        now: float,
        contacts: Iterable[RegisteredContact],
        identities: Iterable[str] = (),
        expires_at: float | None = None,
    ) -> bool:
        """What the reg event package says of a registration that we have; False when we have none.

        Args:
            contacts: all contacts that are bound now.
            identities: identities that are registered with it, besides those known.
            expires_at: when the last contact runs out, where that is told.
        """
        key = impu_key(impu)
        key = key if key in self._registrations else self._aliases.get(key, key)
        registration = self._live(key, now)
        if registration is None:
            return False
        known = dict.fromkeys((*registration.associated_uris, *identities))
        changed = attrs.evolve(
            registration,
            contacts=tuple(contacts),
            associated_uris=tuple(known)[: max(50, len(registration.associated_uris))],
            expires_at=registration.expires_at if expires_at is None else expires_at,
        )
        self._remove(key)
        self._store(key, changed)
        return True

    def restore(self, registration: Registration, contacts: Iterable[RegisteredContact], *, now: float) -> None:
        """A registration that a de-registration took away, though another contact of the user is still bound."""
        if registration.expires_at > now:
            key = impu_key(registration.impu)
            self._remove(key)
            self._store(key, attrs.evolve(registration, contacts=tuple(contacts)))

    def remove(self, impu: str) -> None:
        """The network has de-registered the identity."""
        self._remove(impu_key(impu))

    # ---------------------------------------------------------------- inside

    def _live(self, key: str, now: float) -> Registration | None:
        registration = self._registrations.get(key)
        if registration is not None and registration.expires_at <= now:
            self._remove(key)
            return None
        return registration

    def _store(self, key: str, registration: Registration) -> None:
        self._registrations[key] = registration
        self._kept_bytes += registration.kept_bytes
        for uri in registration.associated_uris:
            alias = impu_key(uri)
            if alias != key:
                self._aliases[alias] = key
        while len(self._registrations) > self._max_registrations or self._kept_bytes > self._max_kept_bytes:
            self._remove(next(iter(self._registrations)))
            self.evicted += 1

    def _remove(self, key: str) -> None:
        registration = self._registrations.pop(key, None)
        if registration is None:
            return
        self._kept_bytes -= registration.kept_bytes
        for uri in registration.associated_uris:
            alias = impu_key(uri)
            if self._aliases.get(alias) == key:
                del self._aliases[alias]

    def _drop_expired(self, now: float) -> None:
        """Look at the two oldest at each REGISTER: what has run out leaves faster than new ones come."""
        oldest = [key for key, _ in zip(self._registrations, range(2), strict=False)]
        for key in oldest:
            if self._registrations[key].expires_at <= now:
                self._remove(key)


def impu_key(uri: str) -> str:
    """A public identity for comparison: no parameters, host in lower case, telephone numbers without separators."""
    try:
        parsed = parse_uri(uri)
    except SipParseError:
        return uri[:MAX_KEY_CHARS]
    match parsed:
        case SipUri():
            return parsed.aor
        case TelUri():
            return f"tel:{parsed.digits}"
    return str(parsed)


def describe(registration: Registration) -> dict[str, Any]:
    """For operators, as JSON; without the embedded messages, which hold credentials."""
    return {
        "impu": registration.impu,
        "scscf": registration.scscf_uri,
        "registered_at": registration.registered_at,
        "expires_at": registration.expires_at,
        "implicit_set": list(registration.associated_uris),
        "contacts": [
            {
                "uri": contact.uri,
                "expires_at": contact.expires_at,
                "features": {tag: sorted(values) for tag, values in contact.features.items()},
                "instance": contact.instance,
                "q": contact.q,
            }
            for contact in registration.contacts
        ],
        "service_info": registration.service_info,
        "icid": registration.icid,
        "orig_ioi": registration.orig_ioi,
        "charging_function_addresses": registration.charging_function_addresses,
        "access_network_info": registration.access_network_info,
        "visited_network_id": registration.visited_network_id,
        "problems": list(registration.problems),
    }
