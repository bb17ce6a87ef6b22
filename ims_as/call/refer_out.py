"""The caller is asked by REFER to call the target itself (RFC 3515): ``transfer.method: refer``.

The agent stays until the outcome comes by NOTIFY.  A caller that refuses the REFER, or says nothing to it, is handed
over by third-party call control instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ims_as.call.target_policy import SERVED_USER, resolve_target
from ims_as.call.transfer import Handover
from ims_as.call.transfer_attempt import TransferAttempt
from ims_as.config import TransferMethod
from ims_as.errors import Result, Termination
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.message import Request
from ims_as.sip.refer import (
    ReferAccepted,
    ReferEvent,
    ReferFailed,
    ReferFinal,
    ReferProgress,
    ReferSender,
    format_refer_to,
)

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["ReferTransfer", "start_handover"]


def start_handover(call: AgentCall, target: str, reason: str, data: Any, *, by_agent: bool) -> None:
    """Hands the caller over in the way that agent, target and caller allow."""
    if by_agent and _by_refer(call, target):
        call.handover = ReferTransfer(call, target, reason, data)
    else:
        call.handover = Handover(call, target, reason, data, by_agent=by_agent)
    call.handover.start()


def _by_refer(call: AgentCall, target: str) -> bool:
    """The served user is always called by us: the caller's own INVITE would come back to this agent."""
    agent = call.agent
    if agent is None or agent.transfer.method is not TransferMethod.REFER or call.join is not None:
        return False
    uri = resolve_target(call, target, by_agent=True)
    return uri is not None and target != SERVED_USER and uri != call.served.uri and _allows_refer(call.party_request)


def _allows_refer(request: Request) -> bool:
    allowed = request.headers.get_list("Allow")
    return not allowed or any(method.strip().upper() == "REFER" for method in allowed)


class ReferTransfer(TransferAttempt):
    """One REFER to the caller and what becomes of it."""

    def __init__(self, call: AgentCall, target: str, reason: str, data: Any) -> None:
        self._call = call
        self._target = target
        self._reason = reason
        self._data = data
        self._sender: ReferSender | None = None
        self._has_rung = False

    def start(self) -> None:
        """Sends the REFER; what cannot be asked for is done by us."""
        call, context = self._call, self._call.context
        uri = resolve_target(call, self._target, by_agent=True)
        assert uri is not None
        assert call.session is not None
        call.record.transfer = {
            "target": uri,
            "reason": self._reason,
            "method": "refer",
            "started_at": context.wall(),
            "data": self._data,
        }
        try:
            self._sender = ReferSender(
                call.session,
                format_refer_to(uri),
                on_event=self._on_refer,
                referred_by=f"<{call.served.uri}>",
            )
        except LocalProtocolError as error:
            self._fall_back(str(error))
            return
        call.trace("decision", "ims-as", "ims-as", f"asks the caller to call {uri}: {self._reason}")

    def _on_refer(self, sender: ReferSender, event: ReferEvent) -> None:
        self._call.post("callee", (self, event))

    async def receive_callee(self, event: ReferEvent) -> None:
        """What the caller says of it."""
        if not self.is_pending:
            return
        match event:
            case ReferAccepted(tells_outcome=tells_outcome):
                self.is_accepted = True
                self._tell("trying")
                if not tells_outcome:
                    self._done()
            case ReferProgress(status=status):
                if status >= 180 and not self._has_rung:
                    self._has_rung = True
                    self._tell("ringing")
            case ReferFinal(status=status) if status < 300:
                self._tell("answered")
                self._done()
            case ReferFinal(status=status):
                self._fail(f"{status}")
            case ReferFailed(status=status, reason=reason):
                if self.is_accepted:
                    self._fail(f"{status} {reason}")
                else:
                    self._fall_back(f"{status}")

    def _tell(self, state: str, cause: str | None = None) -> None:
        self._call.tell_transfer(state, cause)

    def _done(self) -> None:
        call = self._call
        self.is_pending = False
        call.context.metrics.transfers.labels("referred").inc()
        call.hang_up(Termination(Result.TRANSFERRED, "ims-as", "refer", None))

    def _fail(self, cause: str) -> None:
        call = self._call
        self.is_pending = False
        call.context.metrics.transfers.labels("failed").inc()
        call.context.log.event("TRANSFER_FAILED", call_id=call.record.id, cause=cause)
        call.trace("decision", "ims-as", "ims-as", f"the caller did not reach the target: {cause}")
        if call.record.transfer is not None:
            call.record.transfer |= {"state": "failed", "cause": cause, "failed_at": call.context.wall()}
        call.handover_failed(cause)

    def _fall_back(self, cause: str) -> None:
        call = self._call
        self.is_pending = False
        call.trace("decision", "ims-as", "ims-as", f"the caller takes no REFER ({cause}): we call the target")
        call.handover = Handover(call, self._target, self._reason, self._data, by_agent=True)
        call.handover.start()

    def close(self) -> None:
        """The call is over."""
        if self._sender is not None:
            self._sender.give_up()
