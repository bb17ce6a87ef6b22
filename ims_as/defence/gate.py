"""The gate of the server: which new requests are let in, asked before a transaction is made (failure doctrine F4).

What it costs counts twice: each refusal is work that a call does not get. So answers are made once, nothing is written
per refusal, and the exemptions (emergency, priority, our own transferred INVITE) are only looked for when a request
would be refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ims_as.call.admission import Admission
from ims_as.call.failure import reason_header
from ims_as.defence.oc import can_throttle
from ims_as.defence.rate_limit import PeerLimiter
from ims_as.defence.refusal_log import RefusalLog
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request
from ims_as.sip.stateless import Refusal

__all__ = ["AdmissionGate"]


class AdmissionGate:
    """To be an endpoint's ``gate``.

    Args:
        admission: the limits of the node.
        peers: those of each peer.
        clock: monotonic seconds.
        is_exempt: whether an INVITE is let in at any load.
        on_refusals: told of reason and count, at most once a second.
        retry_after_s: how long the sender is asked to leave us alone; only given with overload, since it makes an
            S-CSCF avoid the whole server.
    """

    def __init__(
        self,
        admission: Admission,
        peers: PeerLimiter,
        *,
        clock: Callable[[], float],
        is_exempt: Callable[[Request], bool],
        on_refusals: Callable[[str, int], None],
        retry_after_s: int,
    ) -> None:
        self.retry_after_s = retry_after_s
        self.options_in_overload = True
        """Whether OPTIONS is let in while calls are refused for load."""
        self.refused: Counter[str] = Counter()
        """INVITEs by reason."""
        self.log = RefusalLog(on_refusals)
        self.admission = admission
        self._peers = peers
        self._clock = clock
        self._is_exempt = is_exempt
        self._refusals: dict[tuple[str, int], Refusal] = {}

    def __call__(self, request: Request, flow: Flow) -> Refusal | None:
        method = request.method
        is_call = method == "INVITE"
        if self._peers.limits_requests:
            host = flow.remote[0]
            reason = self._peers.refusal(host, is_call=is_call, now=self._clock())
            if reason is not None and not (is_call and self._is_exempt(request)):
                return self._refuse_peer(reason, host, is_call=is_call)
        if not is_call:
            if method == "OPTIONS" and not self.options_in_overload and self.admission.load.is_overloaded:
                return self._refusal("latency")
            return None
        now = self._clock()
        throttles = self.admission.load.is_overloaded and can_throttle(request.headers.get("via") or "")
        reason = self.admission.refusal(now=now, throttles=throttles)
        if reason is None or self._is_exempt(request):
            return None
        self.refused[reason] += 1
        self.log.note(reason, now)
        # who throttles itself by our feedback must not stay away altogether (RFC 7339 §5.10.2)
        return self._refusal(reason, retry_after_s=0 if throttles and reason == "latency" else None)

    def _refuse_peer(self, reason: str, host: str, *, is_call: bool) -> Refusal:
        if is_call:
            self.refused[reason] += 1
        self.log.note(f"{reason} of {host}", self._clock())
        return self._refusal(reason)

    def _refusal(self, reason: str, *, retry_after_s: int | None = None) -> Refusal:
        seconds = self.retry_after_s if retry_after_s is None else retry_after_s
        refusal = self._refusals.get((reason, seconds))
        if refusal is None:
            ask = [("Retry-After", str(seconds))] if seconds else []
            headers = (*ask, reason_header(reason, "overload"))
            refusal = self._refusals[reason, seconds] = Refusal(reason, 503, headers)
        return refusal
