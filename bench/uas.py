"""The bare SIP stack as a UAS: what signalling alone costs.

python -m bench.uas HOST PORT             each INVITE is answered 200 at once
python -m bench.uas HOST PORT trying      100 at once, then the 200
python -m bench.uas HOST PORT refuse      the gate refuses each INVITE with 503
"""

from __future__ import annotations

import gc
import sys

import trio

from ims_as.collector import keep_collecting
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, build_response
from ims_as.sip.stateless import Refusal
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint


async def main(host: str, port: int, mode: str = "answer") -> None:
    sdp = f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n".encode()
    endpoint = Endpoint(listen=[ListenAddress("udp", host, port)])

    def ignore(_: InviteSession, event: SessionEvent) -> None:
        del event

    def answer(request: Request, transaction: ServerTransaction) -> None:
        session = agent.accept(request, transaction, on_event=ignore)
        if mode == "trying":
            session.provisional(100)
        session.answer(sdp)

    def other(request: Request, transaction: ServerTransaction) -> None:
        endpoint.send_response(transaction, build_response(request, 200))

    agent = UserAgent(endpoint, on_invite=answer, on_request=other, user_agent="", allow="INVITE, ACK, BYE")
    endpoint.user = agent
    if mode == "refuse":
        overload = Refusal("latency", 503, (("Retry-After", "10"), ("Reason", 'SIP;cause=503;text="overload"')))
        endpoint.gate = lambda request, flow: overload
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_collecting)
        await endpoint.run()


if __name__ == "__main__":
    gc.collect()
    trio.run(main, sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
