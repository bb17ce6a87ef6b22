"""The floor of CPU for a bridge in pure Python: the socket calls only.

One epoll loop; per call and second 50 recv of RTP, 50 send of a 640-octet
WebSocket message, 50 recv of one, 50 send of RTP.  Nothing is computed: the
message to the engine is constant, and the RTP packet sent is the last one
received (so that its header and its burst are still good for the generator).

  python floor.py CALLS RTPHOST:PORT ENGINEHOST:PORT [SECONDS]
"""

import select
import socket
import sys
import time
from collections.abc import Callable


def main() -> None:
    n = int(sys.argv[1])
    host, port = sys.argv[2].split(":")
    ehost, eport = sys.argv[3].split(":")
    limit = float(sys.argv[4]) if len(sys.argv) > 4 else 60
    ws = b"\x82\xfe" + (640).to_bytes(2, "big") + bytes(644)
    request = (
        b"GET /floor HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    poll = select.epoll()
    handlers: dict[int, Callable[[], None]] = {}
    for i in range(n):
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        u.bind((host, int(port) + 2 * i))
        u.setblocking(False)
        t = socket.create_connection((ehost, int(eport)))
        t.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        t.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += t.recv(4096)
        t.setblocking(False)
        handlers[u.fileno()], handlers[t.fileno()] = pair(u, t, ws)
        poll.register(u.fileno(), select.EPOLLIN)
        poll.register(t.fileno(), select.EPOLLIN)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        for fd, _ in poll.poll(0.5, 256):
            handlers[fd]()


def pair(u: socket.socket, t: socket.socket, ws: bytes) -> tuple[Callable[[], None], Callable[[], None]]:
    last: bytes | None = None
    owed = 0
    urecv, usend, trecv, tsend = u.recv, u.send, t.recv, t.send

    def rtp() -> None:
        nonlocal last
        if last is None:
            last, peer = u.recvfrom(2048)
            u.connect(peer)
        else:
            last = urecv(2048)
        tsend(ws)

    def tcp() -> None:
        nonlocal owed
        owed += len(trecv(65536))
        while owed >= 644:
            owed -= 644
            usend(last or b"")

    return rtp, tcp


if __name__ == "__main__":
    main()
