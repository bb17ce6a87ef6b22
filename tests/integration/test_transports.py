"""Whole calls over each transport and address family: answered, handed over, ended by the agent."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
import trio

from ims_as.sip.invite_session import Answered, Ended, ReinviteReceived
from ims_as.sip.message import Response
from tests.support.certificates import Authority
from tests.support.garbage import shoot_streams, shots
from tests.support.world import Signalling, until, world

KINDS = [("udp", True), ("tcp", False), ("tcp", True), ("tls", False), ("tls", True)]


def signalling(transport: str, ipv6: bool, directory: Path) -> Signalling:
    return Signalling(transport, ipv6, Authority(directory) if transport == "tls" else None)


@pytest.mark.parametrize(("transport", "ipv6"), KINDS)
def test_call_that_the_agent_ends(transport: str, ipv6: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(sip=signalling(transport, ipv6, tmp_path)) as here:
            leg = here.call()
            response: Response = (await leg.wait(Answered)).response
            assert response.via.transport == transport.upper()
            contact = response.contact
            assert contact is not None
            assert contact.uri_text == f"sip:{here.as_sip}{here.sip.param}"
            start = await here.engine.wait("start")
            assert here.app.context.is_own_uri(f"sip:x@{here.as_sip}")
            record = here.app.call(start["call_id"])
            assert record is not None
            assert str(here.core_sip.host) in str(record["trace"])
            await here.engine.send(event="hangup", reason="done")
            assert (await leg.wait(Ended)).by == "remote"
            await here.until_idle()
            server = here.app.endpoint
            assert not server.counters.drops
            assert not server.counters.parse_errors
            assert not server.counters.guard_errors
            # over TLS the server's own requests take the connection that the core has opened (RFC 5923)
            assert server.n_connections == {"udp": 0, "tcp": 2, "tls": 1}[transport]

    trio.run(main)


@pytest.mark.parametrize(("transport", "ipv6"), KINDS)
def test_call_that_is_handed_to_a_human(transport: str, ipv6: bool, tmp_path: Path) -> None:
    async def main() -> None:
        async with world(sip=signalling(transport, ipv6, tmp_path)) as here:
            phones = here.answer_as_phone()
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            phone = await phones.receive()
            await until(lambda: not here.ports_bound() and not here.engine.connections)
            invite = here.arrived[0]
            assert invite.routes == [f"<sip:{here.core_sip}{here.sip.param};lr>"]
            assert invite.via.transport == transport.upper()
            phone.session.bye()
            assert (await leg.wait(Ended)).by == "remote"
            await here.until_idle()
            assert not here.app.endpoint.counters.drops

    trio.run(main)


def test_options_over_tls(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(sip=signalling("tls", False, tmp_path)) as here:
            assert (await here.request("OPTIONS")).status == 200

    trio.run(main)


def client_context(authority: Authority, name: str) -> ssl.SSLContext:
    certificate, key = authority.issue(name, dns=[f"{name}.example"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context


async def shoot_inside_tls(context: ssl.SSLContext, address: tuple[str, int]) -> None:
    """As `shoot_streams`, each shot behind a handshake."""
    for shot in shots(3)[::3]:
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            stream = trio.SSLStream(await trio.open_tcp_stream(*address), context)
            await stream.send_all(shot)
            await trio.aclose_forcefully(stream)


def test_calls_go_on_under_fire_at_the_tls_port(tmp_path: Path) -> None:
    async def main() -> None:
        sip = signalling("tls", False, tmp_path)
        assert sip.authority is not None
        strangers = tmp_path / "strangers"
        strangers.mkdir()
        async with world(sip=sip) as here:
            address = here.as_sip.host, here.as_sip.port
            held = here.call()
            await held.wait(Answered)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shoot_streams, address)
                nursery.start_soon(shoot_inside_tls, client_context(sip.authority, "known"), address)
                nursery.start_soon(
                    shoot_inside_tls, client_context(Authority(strangers, "others"), "stranger"), address
                )
                while len(nursery.child_tasks):
                    leg = here.call()
                    await leg.wait(Answered)
                    leg.session.bye()
                    await trio.sleep(0.01)
            held.session.bye()
            await here.until_idle()
            counters = here.app.endpoint.counters
            assert not counters.guard_errors
            assert counters.parse_errors.total() > 15
            assert counters.drops["TLS: not TLS"] > 100
            assert counters.drops["TLS: unknown authority"] > 50
            await until(lambda: here.app.endpoint.n_connections == 1)

    trio.run(main)
