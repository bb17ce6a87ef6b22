"""What becomes of an INVITE that no agent answers: a final response, or the rest of its own Route (F1, F2).

Both also work when a provisional response above 100 has gone out.  The S-CSCF's default handling is over then (most do
not look at a 5xx any more), but the INVITE can still go on by its Route: to the caller that is one more early dialog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims_as.call.failure import FailureAction, choose_failure_action, reason_header
from ims_as.errors import Result, Termination
from ims_as.sip.message import build_response
from ims_as.sip.option_tags import RELIABLE, has_tag
from ims_as.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["pass_on", "refuse", "unable"]

Header = tuple[str, str]


def unable(call: AgentCall, code: str, detail: str, status: int) -> None:
    """We can't serve this call: as the failure table says."""
    action = choose_failure_action(
        call.context.config.sip.on_failure, call.profile.default_handling, has_route=bool(call.route.rest)
    )
    call.trace("decision", "ims-as", "ims-as", f"unable: {code} → {action.value}", detail)
    if action is FailureAction.PASS_ON:
        pass_on(call, code)
    else:
        refuse(call, status, code, [reason_header(code, detail)])


def refuse(call: AgentCall, status: int, reason: str, headers: list[Header], *, by: str = "ims-as") -> None:
    """A final response; ``reason`` is recorded."""
    call.end(Termination(Result.REJECTED, by, reason, status))
    if call.session is not None:
        call.session.reject(status, headers=headers)
        return
    items = [*headers, *call.context.headers.response_headers(call.request)]
    call.context.endpoint.send_response(call.take_transaction(), build_response(call.request, status, headers=items))


def pass_on(call: AgentCall, reason: str) -> None:
    """The INVITE goes on by its own Route, or is refused where there is none."""
    if not call.route.rest:
        refuse(call, 503, f"{reason}-without-route", [reason_header("no-route", reason)])
        return
    transaction = _leave(call)
    if transaction is None:
        return  # cancelled meanwhile
    call.end(Termination(Result.PASSED_ON, "ims-as", reason, None))
    call.trace("decision", "ims-as", "ims-as", f"passed on by its Route: {reason}")
    call.context.proxy.forward(call.request, transaction)


def _leave(call: AgentCall) -> ServerTransaction | None:
    """The INVITE's transaction for somebody else; a caller that knows 199 is told that our early dialog is over."""
    session = call.session
    if session is None:
        return call.take_transaction()
    request = call.request
    knows_199 = has_tag(request, "supported", "199") and not has_tag(request, "require", RELIABLE)
    if session.dialog is not None and knows_199:
        session.provisional(199, reliable=False)
    return session.withdraw()
