"""How we call somebody: as whom, by which way, and with what the IMS wants to see in such an INVITE."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.context import CallContext
from ims_as.call.profile import UserProfile, host_of, load_profile
from ims_as.isc.features import MMTEL_CONTACT_PARAM
from ims_as.isc.originating import Origin, core_route, originating_headers
from ims_as.isc.session_id import SessionEnd
from ims_as.sip.errors import SipParseError
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Response

__all__ = ["NoWayError", "Way", "call_by", "find_way", "note_session_id"]

Header = tuple[str, str]


class NoWayError(Exception):
    """There is no way into the core for this call."""


@attrs.frozen
class Way:
    """As whom somebody is called, and where the INVITE goes first."""

    identity: str
    route: tuple[str, ...]
    headers: tuple[Header, ...]
    in_dialog: tuple[Header, ...]
    """Of the headers: they stay with every request of the dialog."""
    session_id: SessionEnd
    profile: UserProfile
    """Of the user on whose behalf it is."""


async def find_way(
    context: CallContext, *, to: str, identity: str, is_served_user: bool, icid: str, session_id: SessionEnd
) -> Way:
    """The user's S-CSCF as it registered with us, as the HSS says, or ``sip.core``; with none of them the Request-URI.

    Raises:
        NoWayError: a user's S-CSCF is not known, or the callee's URI says nothing of where to go.
    """
    registration, profile = None, UserProfile()
    core = context.config.sip.core
    if is_served_user:
        registration = context.registrations.get(identity, now=context.wall())
        profile = await load_profile(context.sh, identity, context.own_hosts)
        core = (registration and registration.scscf_uri) or profile.scscf_name or core
    try:
        route = () if core is None else (core_route(core, originating=is_served_user),)
    except SipParseError as error:
        raise NoWayError(f"{core}: {error}") from error
    if not route and (is_served_user or not to.startswith("sip")):
        raise NoWayError(to)
    headers = originating_headers(
        Origin(identity, is_served_user, registration is not None),
        icid=icid,
        node=host_of(context.config.identity),
        own_ioi=context.headers.own_ioi,
        session=session_id,
        charging_addresses=registration.charging_function_addresses if registration is not None else None,
    )
    in_dialog = tuple(each for each in headers if each[0] == "P-Charging-Vector")
    return Way(identity, route, tuple(headers), in_dialog, session_id, profile)


def call_by(
    context: CallContext,
    way: Way,
    to: str,
    *,
    body: bytes,
    headers: Iterable[Header],
    on_event: Callable[[InviteSession, SessionEvent], None],
    call_id: str,
) -> InviteSession:
    """Sends the INVITE, with a token that keeps the criteria of caller and callee from bringing it to an agent.

    Raises:
        LocalProtocolError: a header cannot be written.
    """
    token = context.bypass.issue(to, context.endpoint.new_branch(), now=context.wall(), passes=2)
    session = context.user_agent.invite(
        uri=to,
        from_=f"<{way.identity}>",
        to=f"<{to}>",
        route=way.route,
        headers=[*way.headers, (BYPASS_HEADER, token), *headers],
        body=body,
        on_event=on_event,
        call_id=call_id,
        contact_params=MMTEL_CONTACT_PARAM,
    )
    session.request_headers = (*way.in_dialog, ("Session-ID", str(way.session_id)))
    return session


def note_session_id(way: Way, session: InviteSession, response: Response) -> None:
    """Our later requests carry the peer's half of the Session-ID too (RFC 7989 §6)."""
    way.session_id.receive(response)
    session.request_headers = (*way.in_dialog, ("Session-ID", str(way.session_id)))
    if session.dialog is not None:
        session.dialog.headers = session.request_headers
