"""The bare SIP stack as a UAS: what a call costs in signalling alone.  python -m bench.uas HOST PORT"""

from __future__ import annotations

import gc
import sys

import trio

from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint


async def main(host: str, port: int) -> None:
    sdp = f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n".encode()
    endpoint = Endpoint(listen=[ListenAddress("udp", host, port)])

    def ignore(_: InviteSession, event: SessionEvent) -> None:
        del event

    def answer(request: Request, transaction: ServerTransaction) -> None:
        agent.accept(request, transaction, on_event=ignore).answer(sdp)

    def other(request: Request, transaction: ServerTransaction) -> None:
        endpoint.send_response(transaction, build_response(request, 200))

    agent = UserAgent(endpoint, on_invite=answer, on_request=other, user_agent="", allow="INVITE, ACK, BYE")
    endpoint.user = agent
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    await endpoint.run()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
