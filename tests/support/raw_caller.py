"""A caller made of plain datagrams: it sends what the test says, right or wrong, and nothing of its own accord."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Sequence

import trio

from ims_as.sip.message import Message, Request, Response
from ims_as.sip.parser import parse_message_untrusted
from tests.support.world import ALICE, BOB, IDENTITY, World

__all__ = ["RawCaller"]

WAIT_S = 5.0
_numbers = itertools.count(1)

Headers = Sequence[tuple[str, str]]


class RawCaller:
    """One call of a core towards the server of a world; takes the address .50 of its network."""

    def __init__(self, here: World) -> None:
        self._here = here
        self.host = f"{here.prefix}.50"
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.host, 5060))
        self.socket.setblocking(False)
        self.call_id = f"raw-{next(_numbers)}@{self.host}"
        self._own = {self.call_id}
        self.cseq = 1
        self.to_tag = ""
        self.received: list[Message] = []
        """All that has come; `wait` takes from it."""
        self._branches: dict[int, str] = {}

    def __enter__(self) -> RawCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # ---------------------------------------------------------------- sending

    def send(
        self,
        method: str,
        *,
        cseq: int | None = None,
        branch: str | None = None,
        headers: Headers = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        to_tag: str | None = None,
    ) -> int:
        """Sends a request of the call; its CSeq number.  ``branch``: None makes one, for ACK and CANCEL see below."""
        number = self.cseq if cseq is None else cseq
        branch = branch or f"z9hG4bK-raw-{next(_numbers)}"
        if method == "INVITE":
            self._branches[number] = branch
        tag = self.to_tag if to_tag is None else to_tag
        route = [f"<{IDENTITY};lr>", *([] if tag else [self._here.odi])]
        lines = [f"{method} {BOB} SIP/2.0", f"Via: SIP/2.0/UDP {self.host}:5060;branch={branch}"]
        lines += [f"Route: {value}" for value in route]
        lines += ["Max-Forwards: 70", f"From: <{ALICE}>;tag=raw", f"To: <{BOB}>{f';tag={tag}' if tag else ''}"]
        lines += [f"Call-ID: {self.call_id}", f"CSeq: {number} {method}", f"Contact: <sip:raw@{self.host}:5060>"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines += [f"Content-Type: {content_type}"] if body else []
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        self.send_bytes(text.encode() + body)
        return number

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendto(data, (self._here.as_address, 5060))

    def invite(self, *, headers: Headers = (), body: bytes = b"", cseq: int | None = None) -> int:
        """An INVITE, or a re-INVITE once there is a dialog."""
        if cseq is None and self.to_tag:
            self.cseq += 1
        served = ("P-Served-User", f"<{BOB}>;sescase=term;regstate=reg")
        asserted = ("P-Asserted-Identity", f"<{ALICE}>")
        return self.send("INVITE", headers=[served, asserted, *headers], body=body, cseq=cseq)

    def cancel(self, cseq: int = 1, headers: Headers = ()) -> None:
        self.send("CANCEL", cseq=cseq, branch=self._branches[cseq], headers=headers, to_tag="")

    def ack(self, response: Response, *, body: bytes = b"") -> None:
        """The ACK of a final response: of its own transaction for a 2xx, else of the INVITE's."""
        number = response.cseq.number
        branch = None if response.status < 300 else self._branches[number]
        self.send("ACK", cseq=number, branch=branch, body=body, to_tag=response.to_tag)

    def request(self, method: str, *, headers: Headers = (), body: bytes = b"", content_type: str = "") -> int:
        """A request inside the dialog, with the next CSeq."""
        self.cseq += 1
        return self.send(method, headers=headers, body=body, content_type=content_type or "application/sdp")

    def respond(self, request: Request, status: int, *, headers: Headers = (), body: bytes = b"") -> None:
        """A response to a request of the server."""
        kept = [(name, value) for name, value in request.headers if name.lower() in _COPIED]
        lines = [f"SIP/2.0 {status} Whatever", *(f"{name}: {value}" for name, value in kept)]
        lines += [f"Contact: <sip:raw@{self.host}:5060>", *(f"{name}: {value}" for name, value in headers)]
        lines += ["Content-Type: application/sdp"] if body else []
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        self.send_bytes(text.encode() + body)

    # ---------------------------------------------------------------- receiving

    async def wait(self, wanted: Callable[[Message], bool]) -> Message:
        """The first message that fits and that nobody has waited for yet."""
        with trio.fail_after(WAIT_S):
            while True:
                for index, message in enumerate(self.received):
                    if wanted(message):
                        del self.received[index]
                        return message
                await trio.lowlevel.wait_readable(self.socket)
                self._drain()

    def _drain(self) -> None:
        while True:
            try:
                data = self.socket.recv(65535)
            except BlockingIOError:
                return
            message = parse_message_untrusted(data)
            self._own.add(self.call_id)
            if message.call_id in self._own:  # else of an earlier call from this address
                self.received.append(message)

    async def response(self, method: str = "INVITE", status: int | None = None, cseq: int | None = None) -> Response:
        """The next response to such a request that is not a 100; of that status, if one is named."""

        def wanted(message: Message) -> bool:
            if not isinstance(message, Response) or message.status == 100 or message.cseq.method != method:
                return False
            return status in (None, message.status) and cseq in (None, message.cseq.number)

        found = await self.wait(wanted)
        assert isinstance(found, Response)
        if method == "INVITE" and 100 < found.status < 300:
            self.to_tag = found.to_tag or ""
        return found

    async def prack(self, response: Response, *, body: bytes = b"") -> Response:
        """Acknowledges a reliable provisional response; the answer to the PRACK."""
        assert response.headers.get("Require") is not None
        rack = f"{response.headers.get('RSeq')} {response.cseq}"
        self.to_tag = response.to_tag or ""
        number = self.request("PRACK", headers=[("RAck", rack)], body=body)
        return await self.response("PRACK", cseq=number)

    async def update(self, body: bytes) -> Response:
        """An UPDATE with an offer; its answer."""
        return await self.response("UPDATE", cseq=self.request("UPDATE", body=body))

    async def incoming(self, method: str) -> Request:
        """The next request of that method that the server sends."""
        found = await self.wait(lambda message: isinstance(message, Request) and message.method == method)
        assert isinstance(found, Request)
        return found

    def pending(self) -> list[str]:
        """What has come and was not waited for, in short."""
        self._drain()
        return [
            each.method if isinstance(each, Request) else f"{each.status} {each.cseq.method}"
            for each in self.received
            if isinstance(each, Request | Response)
        ]

    async def hang_up(self) -> None:
        """BYE and its answer."""
        self.request("BYE")
        assert (await self.response("BYE")).status == 200


_COPIED = ("via", "from", "to", "call-id", "cseq")
