"""A call that goes on as a new dialog (TS 23.218 §9.1.1.4, routeing B2BUA): its record, and what the couplings tell.

The INVITE goes on by the rest of its Route, so the S-CSCF continues where it was; the parties' media is theirs.  No
task runs for such a call: everything in it follows from a message or a timer.
"""

from __future__ import annotations

from collections.abc import Callable

from ims_as.call.agent_call import API_HANGUP
from ims_as.call.context import CallContext
from ims_as.call.outbound import outcome_of
from ims_as.call.record import CallRecord, CallState
from ims_as.errors import Result, Termination
from ims_as.isc.b2bua_headers import CoupledHeaders
from ims_as.sip.coupling import Coupling
from ims_as.sip.message import Request
from ims_as.sip.transaction import ServerTransaction

__all__ = ["B2buaCall"]


class B2buaCall:
    """One such call; made and started by the dispatcher.

    Args:
        route: Route values of the new INVITE.
        on_end: called once, when the call is over and its record complete.
    """

    def __init__(
        self,
        context: CallContext,
        request: Request,
        transaction: ServerTransaction,
        record: CallRecord,
        route: tuple[str, ...],
        on_end: Callable[[B2buaCall], None],
    ) -> None:
        self.record = record
        self._context = context
        self._on_end = on_end
        record.outgoing_call_id = context.endpoint.new_call_id()
        self._coupling = Coupling(
            context.endpoint,
            context.couplings,
            request,
            transaction,
            route=route,
            headers=CoupledHeaders(context.headers, passes_refer=context.config.sip.pass_refer),
            user=self,
            call_id=record.outgoing_call_id,
        )

    def start(self) -> None:
        """Sends the INVITE on; the record is in the directory already."""
        record = self.record
        assert record.outgoing_call_id is not None
        self._context.directory.add_leg(record, record.outgoing_call_id)
        record.state = CallState.CALLING
        record.trace.add("decision", "ims-as", "ims-as", "goes on as a new dialog")
        self._coupling.start()

    def shut_down(self, reason: str) -> None:
        """Ends the call from our side."""
        self._coupling.hang_up(200 if reason == API_HANGUP else 503, reason)

    # ---------------------------------------------------------------- CouplingUser

    def progress(self, status: int) -> None:
        record = self.record
        if status == 180 and record.state is CallState.CALLING:
            record.state = CallState.RINGING
            record.ringing_at = self._context.wall()

    def answered(self) -> None:
        self.record.state = CallState.JOINED
        self.record.answered_at = self._context.wall()

    def failed(self, status: int, by: str) -> None:
        if by == "caller":
            self._end(Termination(Result.CANCELLED, by, "cancel", status))
        else:
            self._end(Termination(Result.UNANSWERED, by, outcome_of(status), status))

    def ended(self, by: str, reason: str) -> None:
        result = Result.FAILED if by == "network" else Result.CONNECTED
        self.record.trace.add("decision", "ims-as", "ims-as", f"ended by {by}", text=reason)
        self._end(Termination(result, by, "bye" if by in ("caller", "callee") else "hangup", None))

    def _end(self, termination: Termination) -> None:
        record = self.record
        record.termination = termination
        record.state = CallState.ENDED
        record.ended_at = self._context.wall()
        self._on_end(self)
