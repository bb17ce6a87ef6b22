"""Reliable provisional responses (RFC 3262): the callee's queue, and what the caller reads of them.

Callee: one response at a time is on its way, sent again after T1, 2*T1, 4*T1 … without an upper bound until its PRACK
comes; after 64*T1 it is given up. Others wait in a queue: a second one must not go out before the first is
acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ims_as.sip.core import EndpointCore
from ims_as.sip.header_types import RAck
from ims_as.sip.message import Response
from ims_as.sip.option_tags import RELIABLE, has_tag
from ims_as.sip.repeated_response import RepeatedResponse
from ims_as.sip.transaction import ServerTransaction

__all__ = ["ReliableProvisionals", "read_rseq"]

MAX_QUEUED: Final = 16
"""More than any call needs; a user that sends more has lost its way, and the newest are left out."""
_FIRST_RSEQ_BOUND: Final = 2**31 - 1


def read_rseq(response: Response) -> int | None:
    """The number of a reliable provisional response, None when it is not one, or a malformed one (§4, §7.1)."""
    text = response.headers.get("rseq")
    if text is None or not has_tag(response, "require", RELIABLE):
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    number = int(text)
    return number if 0 < number < 2**32 else None


class ReliableProvisionals:
    """Those of one INVITE. `on_timeout` is called when the PRACK of one does not come."""

    __slots__ = (
        "_endpoint",
        "_is_closed",
        "_on_timeout",
        "_on_way",
        "_queue",
        "_rseq",
        "_server",
        "cseq",
    )

    def __init__(
        self, endpoint: EndpointCore, server: ServerTransaction, cseq: int, on_timeout: Callable[[], None]
    ) -> None:
        self.cseq = cseq
        self._endpoint = endpoint
        self._server = server
        self._on_timeout = on_timeout
        # §3: chosen uniformly from 1 to 2**31-1, so that a PRACK of another call cannot fit
        self._rseq = int(endpoint.new_token()[:15], 16) % _FIRST_RSEQ_BOUND
        self._on_way: RepeatedResponse | None = None
        """The one that is not acknowledged."""
        self._queue: deque[Callable[[int], Response]] = deque()
        self._is_closed = False

    @property
    def holds_description(self) -> bool:
        """One with a body is not acknowledged: a 2xx has to wait (§3)."""
        return self._on_way is not None and bool(self._on_way.response.body)

    def send(self, build: Callable[[int], Response]) -> None:
        """Send the response that `build` makes for its RSeq, now or when those before it are acknowledged."""
        if not self._is_closed and len(self._queue) < MAX_QUEUED:
            self._queue.append(build)
            self.go_on()

    def go_on(self) -> None:
        """Send the next one if none is on its way."""
        if self._on_way is not None or not self._queue or self._is_closed:
            return
        self._rseq += 1
        response = self._queue.popleft()(self._rseq)
        self._on_way = RepeatedResponse(self._endpoint, self._server, response, self._on_timeout)
        self._on_way.start()

    def acknowledge(self, rack: RAck) -> bool:
        """Take a PRACK; False when it is for nothing that waits for one (§3: 481)."""
        if self._on_way is None or rack != RAck(self._rseq, self.cseq, "INVITE"):
            return False
        self._on_way.stop()
        self._on_way = None
        return True

    def forget_queued(self) -> None:
        """A final response is to be sent: no new ones (§3)."""
        self._queue.clear()

    def close(self) -> None:
        """The final response is sent: nothing is sent again, but a late PRACK still finds its response."""
        self._is_closed = True
        self._queue.clear()
        if self._on_way is not None:
            self._on_way.stop()
