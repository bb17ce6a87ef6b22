"""An authoritative name server for tests: a zone as text, answered over UDP on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import trio

__all__ = ["DnsServer", "dns_server"]

PORT = 5353


class DnsServer:
    """Attributes:
    questions: (name, type) of what was asked, in order.
    is_silent: it hears and says nothing.
    garbage: sent in place of every answer.
    """

    def __init__(self, zone: str, address: tuple[str, int]) -> None:
        self.address = address
        self.questions: list[tuple[str, str]] = []
        self.is_silent = False
        self.garbage = b""
        self._sets: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset] = {}
        for line in zone.splitlines():
            if not line.strip():
                continue
            name, ttl, kind, data = line.split(None, 3)
            one = dns.rrset.from_text(name, int(ttl), "IN", kind, data)
            known = self._sets.setdefault((one.name, one.rdtype), one)
            known.update(one)

    def forget(self) -> None:
        """The zone is empty from now on."""
        self._sets.clear()

    def answer(self, wire: bytes) -> bytes | None:
        if self.is_silent:
            return None
        if self.garbage:
            return self.garbage
        query = dns.message.from_wire(wire)
        question = query.question[0]
        self.questions.append((question.name.to_text(), dns.rdatatype.to_text(question.rdtype)))
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        found = self._sets.get((question.name, question.rdtype))
        if found is not None:
            response.answer.append(found)
        elif not any(name == question.name or name.is_subdomain(question.name) for name, _ in self._sets):
            response.set_rcode(dns.rcode.NXDOMAIN)
        zone = question.name.parent() if len(question.name) > 2 else question.name
        response.authority.append(dns.rrset.from_text(zone, 60, "IN", "SOA", ". . 1 60 60 60 60"))
        return response.to_wire()


@asynccontextmanager
async def dns_server(zone: str, host: str, port: int = PORT) -> AsyncIterator[DnsServer]:
    server = DnsServer(zone, (host, port))
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    with sock:
        await sock.bind((host, port))

        async def serve() -> None:
            while True:
                wire, source = await sock.recvfrom(4096)
                answer = server.answer(wire)
                if answer is not None:
                    await sock.sendto(answer, source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield server
            nursery.cancel_scope.cancel()
