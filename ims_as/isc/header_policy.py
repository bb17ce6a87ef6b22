"""Applies the header table: what goes on, what is rewritten, what our answers carry.

One `HeaderPolicy` serves the whole process; it keeps nothing of any call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ims_as.isc.charging import read_charging_vector_untrusted
from ims_as.isc.header_table import DROP, KEEP, HeaderRule, rule_for
from ims_as.isc.history_info import (
    history_from_diversions,
    read_diversions_untrusted,
    read_history_untrusted,
    retargeted_history,
)
from ims_as.isc.privacy import Privacy, read_privacy_untrusted
from ims_as.isc.session_id import SessionEnd, name_based_id, read_session_id_untrusted
from ims_as.sip.grammar import printable
from ims_as.sip.headers import header_key
from ims_as.sip.message import DEFAULT_MAX_FORWARDS, Message, Request, Response

if TYPE_CHECKING:
    from ims_as.sip.invite_session import InviteSession

__all__ = ["HeaderPolicy", "next_max_forwards"]

Header = tuple[str, str]

MAX_ENGINE_HEADERS: Final = 32
MAX_ENGINE_VALUE_CHARS: Final = 1024
# calling party category and originating line information, TS 24.229 §7.2A.12
_CPC_RE: Final = re.compile(r";[ \t]*(?:cpc|oli)=[A-Za-z0-9\-]{1,32}", re.IGNORECASE)


def next_max_forwards(request: Request) -> int | None:
    """For the request on the other side of a B2BUA (RFC 7332); None when it was used up: 483."""
    value = request.max_forwards
    if value is None:
        return DEFAULT_MAX_FORWARDS
    return value - 1 if value > 0 else None


class HeaderPolicy:
    """The table with our own names in it.

    Args:
        own_ioi: our inter-operator identifier of type 3.
        host: our host name, the namespace of the Session-IDs that we make.
    """

    def __init__(self, *, own_ioi: str, host: str) -> None:
        self.own_ioi = own_ioi
        self._host = host

    # ---------------------------------------------------------------- B2BUA

    def copy_for_b2bua(self, request: Request) -> list[Header]:
        """The headers of the request on the other side, without those that its dialog writes itself."""
        return self._copy(request, lambda rule: rule.b2bua)

    def copy_for_new_leg(self, request: Request, diverted_to: str | None) -> list[Header]:
        """As `copy_for_b2bua`, for a new call on behalf of the caller whom we have answered (a transfer).

        Identity and privacy stay the caller's; History-Info tells of the new target; what the new leg says itself
        (User-to-User, Call-Info) and what was about the old one (Session-ID's peer, Reason) is not taken over.

        Args:
            diverted_to: the new target; None: it is the served user, whom the caller called anyway.
        """
        mine = {"user-to-user", "call-info", "session-id", "reason", "diversion", "history-info"}
        headers = [each for each in self.copy_for_b2bua(request) if header_key(each[0]) not in mine]
        if "P-Asserted-Identity" not in request.headers:
            headers.append(("P-Asserted-Identity", f"<{request.from_.uri_text}>"))
        history = history_from_diversions(request) or request.headers.get_list("History-Info")
        if diverted_to is not None:
            known = Request(request.method, request.uri, [("History-Info", value) for value in history])
            history = retargeted_history(known, diverted_to, cause=302)
        headers += [("History-Info", value) for value in history]
        session = read_session_id_untrusted(request)
        if session is not None:
            headers.append(("Session-ID", str(SessionEnd(session.local))))
        return headers

    def copy_response_for_b2bua(self, response: Response) -> list[Header]:
        """What our response takes over from the other side's; `response_headers` adds what is ours."""
        return self._copy(response, lambda rule: rule.reply)

    def _copy(self, message: Message, cell: Callable[[HeaderRule], str]) -> list[Header]:
        copied: list[Header] = []
        for name, value in message.headers.items():
            action = cell(rule_for(name))
            if action == KEEP:
                copied.append((name, value))
            elif action == "charging":
                vector = read_charging_vector_untrusted(message)
                copied.append((name, value if vector is None else str(vector.for_request(self.own_ioi))))
        return copied

    # ---------------------------------------------------------------- user agent

    def response_headers(self, request: Request) -> list[Header]:
        """What all our responses above 100 to this request carry besides what RFC 3261 copies."""
        return self.call_headers(request)[0]

    def dialog_headers(self, request: Request) -> list[Header]:
        """What our own requests carry in the dialog that this one made (TS 24.229 §5.7.2)."""
        return self.call_headers(request)[1]

    def call_headers(self, request: Request) -> tuple[list[Header], list[Header]]:
        """`response_headers` and `dialog_headers`."""
        responses: list[Header] = []
        requests: list[Header] = []
        vector = read_charging_vector_untrusted(request)
        if vector is not None:
            responses.append(("P-Charging-Vector", str(vector.for_response(self.own_ioi))))
            requests.append(("P-Charging-Vector", str(vector.in_dialog(self.own_ioi))))
        if "Session-ID" in request.headers:
            session = ("Session-ID", str(self.session_end(request)))
            responses.append(session)
            requests.append(session)
        return responses, requests

    def follow_session(self, session: InviteSession, request: Request) -> None:
        """Keep Session-ID in the session's headers right when the peer's UUID changes in mid-call (RFC 7989 §6)."""
        if "Session-ID" not in request.headers:
            return
        end = self.session_end(request)

        def note(message: Request) -> None:
            before = str(end)
            end.receive(message)
            if str(end) != before:
                now = ("Session-ID", str(end))
                session.response_headers = _replaced(session.response_headers, now)
                session.request_headers = _replaced(session.request_headers, now)
                if session.dialog is not None:
                    session.dialog.headers = _replaced(session.dialog.headers, now)

        session.on_peer_request = note

    def session_end(self, request: Request) -> SessionEnd:
        """Our end of the session that the request began; the same each time."""
        end = SessionEnd(name_based_id(self._host, request.call_id, request.from_tag or ""))
        end.receive(request)
        return end

    # ---------------------------------------------------------------- out of the trust domain

    def strip_for_untrusted(self, message: Message) -> None:
        """Take out of a message of ours what only the trust domain may see."""
        privacy = read_privacy_untrusted(message)
        kept: list[Header] = []
        for name, value in message.headers.items():
            action = rule_for(name).untrusted
            if action == KEEP:
                kept.append((name, value))
            elif action != DROP and (left := _rewrite(action, name, value, privacy)):
                kept.append((name, left))
        message.headers = type(message.headers)(kept)

    # ---------------------------------------------------------------- engines

    def engine_headers(self, request: Request, *, extra: Iterable[str] = ()) -> dict[str, str]:
        """``headers`` of ``start``: name as in the table, values of one name joined by ", ".

        Args:
            extra: names that the operator wants the agent's engine to have; they go there only as far as they would go
                to an untrusted peer, and never those that the table keeps from engines.
        """
        wanted = {header_key(name) for name in extra}
        privacy = read_privacy_untrusted(request)
        found: dict[str, str] = {}
        for name, value in request.headers.items():
            rule = rule_for(name)
            action, label = rule.engine, rule.name
            if header_key(name) in wanted and rule.name.startswith("("):
                action, label = rule.untrusted, name
            if action == DROP:
                continue
            text = printable(value if action == KEEP else _rewrite(action, name, value, privacy))[
                :MAX_ENGINE_VALUE_CHARS
            ]
            if not text:
                continue
            if label in found:
                found[label] = f"{found[label]}, {text}"[:MAX_ENGINE_VALUE_CHARS]
            elif len(found) < MAX_ENGINE_HEADERS:
                found[label] = text
        return found


def _replaced(headers: Iterable[Header], header: Header) -> tuple[Header, ...]:
    return tuple(header if each[0] == header[0] else each for each in headers)


def _rewrite(action: str, name: str, value: str, privacy: Privacy) -> str:
    """The value as it may leave, "" when it may not."""
    match action:
        case "identity":
            return "" if privacy.hides_identity else _CPC_RE.sub("", value)
        case "no-cpc":
            return _CPC_RE.sub("", value)
        case "no-psap":
            return "" if value.strip().lower() == "psap-callback" else value
        case "history":
            return "" if privacy.hides_history else _public_history(name, value)
        case "diversion":
            return "" if privacy.hides_history or privacy.hides_identity else _public_diversions(name, value)
    raise AssertionError(action)


def _public_history(name: str, value: str) -> str:
    entries = read_history_untrusted(Message([(name, value)]))
    return ", ".join(str(entry.address) for entry in entries if not entry.is_private)


def _public_diversions(name: str, value: str) -> str:
    return ", ".join(
        str(each.address) for each in read_diversions_untrusted(Message([(name, value)])) if not each.is_private
    )
