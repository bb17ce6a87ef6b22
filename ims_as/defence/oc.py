"""Overload control between neighbours: the ``oc`` parameters of Via (RFC 7339, loss-based).

A client says in the Via of each request that it can throttle itself: ``;oc;oc-algo="loss"``. A server that has too much
to do answers in the same Via how many per cent to keep back: ``;oc=20;oc-algo="loss";oc-validity=1000;oc-seq=…``, and
``oc-validity=0`` when it is over. Unlike a 503 with Retry-After this sheds just enough, at the source, and costs the
server nothing.

We are both: as a server we tell peers that can throttle the `loss` of the load monitor; as a client we keep back what a
next hop asks for, of what opens something (no request inside a dialog, no emergency or priority call). What is kept
back fails as if the next hop had answered 503 (§5.4).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ims_as.sip.header_types import Via
from ims_as.sip.message import Request

__all__ = ["VALIDITY_MS", "OverloadControl", "can_throttle"]

VALIDITY_MS: Final = 1000
"""For how long our answer holds; each response to a peer that throttles renews it."""
LINGER_S: Final = 5.0
"""So long after overload peers are told that it is over, in case that they hold on to an answer."""
MAX_HOPS: Final = 1000
MAX_VALIDITY_S: Final = 300.0
"""A next hop cannot silence us for longer, whatever it says."""
DEFAULT_VALIDITY_MS: Final = 500
"""RFC 7339 §4.3."""

_PARAMS: Final = frozenset({"oc", "oc-algo", "oc-validity", "oc-seq"})
_SEQ_RE: Final = re.compile(r"([0-9]{1,12})\.([0-9]{1,5})")
_NEVER_KEPT_BACK: Final = frozenset({"ACK", "CANCEL", "BYE", "PRACK"})

Hop = tuple[str, int]


def can_throttle(via_text: str) -> bool:
    """Whether the top Via, as it came, says that its sender can throttle itself; quick, and only for hints."""
    return ";oc" in via_text.lower()


class _Throttle:
    """What a next hop has asked for."""

    __slots__ = ("debt", "loss", "seq", "until")

    def __init__(self) -> None:
        self.loss = 0.0
        self.until = 0.0
        self.seq = (-1, -1)
        self.debt = 0.0
        """Share of the next request that is still to be kept back: no dice are needed to keep 20 of 100."""


class OverloadControl:
    """To be an endpoint's ``overload_control``.

    Args:
        is_exempt: whether a request of ours is never kept back.
        announces: whether our requests say that we can throttle ourselves.
    """

    def __init__(self, *, is_exempt: Callable[[Request], bool], announces: bool = True) -> None:
        self.announces = announces
        self.kept_back = 0
        self._is_exempt = is_exempt
        self._answer: tuple[tuple[str, str | None], ...] = ()
        self._seq = 0.0
        self._over_until = 0.0
        self._hops: OrderedDict[Hop, _Throttle] = OrderedDict()

    @property
    def via_params(self) -> str:
        """What the Via of our requests has besides."""
        return ';oc;oc-algo="loss"' if self.announces else ""

    # ---------------------------------------------------------------- as a server

    def set_loss(self, loss: float, *, now: float, wall: float) -> None:
        """What peers are told from now on.

        Args:
            loss: the share that they should keep back, 0 to 1.
            now: monotonic seconds; ``wall``: seconds since the epoch.
        """
        if loss > 0.0:
            self._over_until = now + LINGER_S
        elif now >= self._over_until:
            self._answer = ()
            return
        self._seq = max(wall, self._seq + 0.001)  # must rise, whatever is done to the clock
        self._answer = (
            ("oc", str(round(100 * loss))),
            ("oc-algo", '"loss"'),
            ("oc-validity", str(VALIDITY_MS if loss > 0.0 else 0)),
            ("oc-seq", f"{self._seq:.3f}"),
        )

    def answer(self, via: Via) -> Via:
        """The top Via of a request, with our feedback for its responses where its sender understands it."""
        if not self._answer or via.param("oc") is None:
            return via
        algorithms = (via.param("oc-algo") or "loss").strip('"').lower().split(",")
        if "loss" not in [each.strip() for each in algorithms]:
            return via
        kept = tuple(entry for entry in via.params if entry[0].lower() not in _PARAMS)
        return Via(via.transport, via.host, via.port, (*kept, *self._answer))

    # ---------------------------------------------------------------- as a client

    def receive(self, hop: Hop, via: Via, *, now: float) -> None:
        """Our Via in a response of a next hop: take its feedback; nonsense is no feedback."""
        value = via.param("oc")
        if not value or not _is_number(value, 3) or int(value) > 100:
            return
        algorithm, validity = via.param("oc-algo"), via.param("oc-validity") or str(DEFAULT_VALIDITY_MS)
        match = _SEQ_RE.fullmatch(via.param("oc-seq") or "")
        if match is None or not _is_number(validity, 9) or (algorithm or "loss").strip('"').lower() != "loss":
            return
        seq = int(match[1]), int(match[2].ljust(5, "0"))
        hops = self._hops
        throttle = hops.get(hop)
        if throttle is None:
            if validity == "0" or int(value) == 0:
                return
            if len(hops) >= MAX_HOPS:
                hops.popitem(last=False)
            throttle = hops[hop] = _Throttle()
        if seq <= throttle.seq:
            return  # older than what we have: responses overtake each other
        throttle.seq = seq
        throttle.loss = int(value) / 100
        throttle.until = now + min(int(validity) / 1000, MAX_VALIDITY_S)
        hops.move_to_end(hop)

    def keeps_back(self, request: Request, hop: Hop, *, now: float) -> bool:
        """Whether this request to a next hop is to be kept back."""
        if not self._hops:
            return False
        throttle = self._hops.get(hop)
        if throttle is None:
            return False
        if now >= throttle.until:
            del self._hops[hop]
            return False
        if request.method in _NEVER_KEPT_BACK or request.to_tag is not None or self._is_exempt(request):
            return False
        throttle.debt += throttle.loss
        if throttle.debt < 1.0 - 1e-9:
            return False
        throttle.debt -= 1.0
        self.kept_back += 1
        return True


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits
