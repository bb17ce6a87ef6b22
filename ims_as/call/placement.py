"""Takes orders to call somebody: reads, checks, admits and starts them, and ends calls on request.

An order is answered as soon as it is certain that the call will be tried; what becomes of it is told by the record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ims_as.call.agent_call import API_HANGUP
from ims_as.call.connect_call import ConnectCall
from ims_as.call.context import CallContext, new_call_id
from ims_as.call.idempotency import IdempotencyKeys, KeyReusedError, is_key_untrusted
from ims_as.call.order import CallOrder, ConnectOrder, OrderError, parse_order_untrusted
from ims_as.call.outbound import OutboundCall
from ims_as.call.record import CallRecord

__all__ = ["CallPlacer"]


class CallPlacer:
    """The calls that applications order.

    Args:
        start: runs an admitted call.
    """

    def __init__(self, context: CallContext, start: Callable[[OutboundCall | ConnectCall], None]) -> None:
        self._context = context
        self._start = start
        self._keys = IdempotencyKeys()

    def place_untrusted(self, content: object, *, key: str | None) -> tuple[str, bool]:
        """Carries out an order.

        Args:
            content: as it came, JSON read.
            key: the idempotency key; None: every order is a new call.

        Returns:
            The call's id, and whether the call was made by an earlier order under the same key.

        Raises:
            OrderError: with the status and reason of the refusal; then nobody is called.
        """
        now = self._context.wall()
        if key is not None:
            if not is_key_untrusted(key):
                raise OrderError(400, "bad-key", "the idempotency key must be 1 to 200 visible characters")
            try:
                earlier = self._keys.find(key, content, now=now)
            except KeyReusedError:
                raise OrderError(422, "key-reused", "the idempotency key belongs to another order") from None
            if earlier is not None:
                return earlier, True
        order = parse_order_untrusted(content, self._context.config, self._context.destinations)
        self._check_ready(order)
        call_id = self._call(order)
        if key is not None:
            self._keys.keep(key, content, call_id, now=now)
        return call_id, False

    def _check_ready(self, order: CallOrder | ConnectOrder) -> None:
        context = self._context
        retry_after_s = context.config.limits.retry_after_s
        if (refusal := context.admission.refusal(now=context.now())) is not None:
            context.metrics.admission_rejected.labels(refusal).inc()
            raise OrderError(503, f"overload-{refusal}", "no room for another call", retry_after_s=retry_after_s)
        targets = [order.to] if isinstance(order, CallOrder) else [order.first, order.second]
        if context.config.sip.core is None and not order.is_served_user and any(t.startswith("tel:") for t in targets):
            raise OrderError(422, "no-core-route", "a tel URI can only be called by way of sip.core", "to")
        if isinstance(order, ConnectOrder):
            return
        engines = context.config.agents[order.agent].engines
        if not context.media.is_ready:
            raise OrderError(503, "no-media", "no media worker", retry_after_s=retry_after_s)
        if not any(context.engines.is_usable(engine.url) for engine in engines):
            raise OrderError(503, "no-engine", "no engine of this agent is up", retry_after_s=retry_after_s)

    def _call(self, order: CallOrder | ConnectOrder) -> str:
        context = self._context
        call_id, sip_call_id = new_call_id(), context.endpoint.new_call_id()
        record = CallRecord(
            id=call_id,
            sip_call_id=sip_call_id,
            from_uri=order.identity if isinstance(order, CallOrder) else order.first,
            to_uri=order.to if isinstance(order, CallOrder) else order.second,
            received_at=context.wall(),
            trace=context.traces.start(call_id, sip_call_id),
            direction="outbound",
            served_user=order.identity,
            session_case="originating_registered",
        )
        limit = context.outbound_limits.start(call_id, agent=order.agent, caller=order.identity, now=context.now())
        if limit is not None:
            context.traces.end(call_id)
            raise OrderError(429, "limit", f"{limit} is reached")
        if isinstance(order, CallOrder):
            self._start(OutboundCall(context, order, record))
        else:
            self._start(ConnectCall(context, order, record))
        return call_id

    def hang_up(self, any_id: str) -> bool:
        """Ends a call that is up or being set up; False when there is none of that id."""
        record = self._context.directory.find(any_id)
        call: Any = next((call for call in self._context.calls if call.record is record), None)
        if call is None:
            return False
        call.shut_down(API_HANGUP)
        return True
