"""A server whose HSS speaks TLS: a call by its profile, renewed certificates, certificates that cannot be used."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from diameter.base_commands import SH_APPLICATION
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from ims_as.sip.invite_session import Answered
from ims_as.transport.tls import TlsContexts
from tests.support.certificates import Authority
from tests.support.world import BOB, World, until, world

HSS_HOST, HSS, AS = "127.0.82.10", "hss.ims.example.net", "as.ims.example.net"
PROFILE = b"<AgentProfile><Enabled>true</Enabled><Greeting>Guten Tag</Greeting></AgentProfile>"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def build_hss(authority: Authority) -> LabHss:
    bob = Subscriber(impi="bob@ims.example.net", impus=[BOB], repository={b"ai-voice-agent": PROFILE})
    tls = TlsContexts(authority.options(HSS, dns=[HSS]))
    return LabHss(HSS_HOST, 0, {BOB: bob}, origin_host=HSS, origin_realm="ims.example.net", tls=tls)


def overrides(authority: Authority, port: int, *, days: tuple[int, int] = (-1, 2)) -> list[str]:
    certificate, key = authority.issue(AS, dns=[AS], days=days)
    files = {"certificate": str(certificate), "key": {"file": str(key)}, "ca": str(authority.ca)}
    peer = {"address": f"tls:{HSS_HOST}:{port}", "origin_host": HSS}
    return [f"diameter.origin_host={AS}", f"diameter.tls={json.dumps(files)}", f"diameter.peers={json.dumps([peer])}"]


def run_with(authority: Authority, test: Callable[[World], Awaitable[None]], **issued: tuple[int, int]) -> None:
    async def main() -> None:
        hss = build_hss(authority)
        async with trio.open_nursery() as nursery:
            await nursery.start(hss.run)
            async with world(*overrides(authority, hss.address[1], **issued)) as here:
                await test(here)
            nursery.cancel_scope.cancel()

    trio.run(main)


async def until_open(here: World) -> None:
    assert here.app.node is not None
    with trio.fail_after(5):
        await here.app.node.wait_open()


def test_a_call_is_answered_by_the_profile(authority: Authority):
    async def test(here: World) -> None:
        await until_open(here)
        leg = here.call()
        await leg.wait(Answered)
        assert (await here.engine.wait("start"))["greeting"] == "Guten Tag"
        leg.session.bye()

    run_with(authority, test)


def test_a_reload_brings_the_renewed_certificate(authority: Authority):
    async def test(here: World) -> None:
        node = here.app.node
        assert node is not None
        await until(lambda: node.peer_states()[0]["failure"])
        assert not node.is_open()
        authority.issue(AS, dns=[AS])
        assert (await here.app.reload()).outcome == "unchanged"
        await until_open(here)

    run_with(authority, test, days=(-2, -1))


def test_files_that_cannot_be_used_change_nothing(authority: Authority):
    async def test(here: World) -> None:
        await until_open(here)
        config = here.app.config
        here.app._reloader._source = lambda: (config, [])  # the file is good, what it names is not
        (authority.directory / f"{AS}.crt").write_text("nothing")
        outcome = await here.app.reload()
        assert outcome.outcome == "rejected"
        assert outcome.problems[0].startswith("diameter.tls: certificate or key cannot be used")
        leg = here.call()
        await leg.wait(Answered)
        leg.session.bye()

    run_with(authority, test)


def test_an_hss_that_connects_to_us_is_let_in_by_its_name(authority: Authority):
    """Nothing in ``peers``: the server listens, over TLS, for those of one realm."""
    certificate, key = authority.issue(AS, dns=[AS])
    files = {"certificate": str(certificate), "key": {"file": str(key)}, "ca": str(authority.ca)}
    settings = [f"diameter.origin_host={AS}", f"diameter.tls={json.dumps(files)}"]
    settings += [f'diameter.listen=["tls:{HSS_HOST}:0"]', 'diameter.accept_from=[".ims.example.net"]']

    async def main() -> None:
        async with world(*settings) as here, trio.open_nursery() as nursery:
            node = here.app.node
            assert node is not None
            for name in (HSS, "hss.elsewhere.example"):
                tls = TlsContexts(authority.options(name, dns=[name]))
                peer = PeerConfig(*node.addresses[0], "tls", AS)
                config = NodeConfig(
                    origin_host=name, origin_realm="r", peers=(peer,), tls=tls, applications=(SH_APPLICATION,)
                )
                await nursery.start(DiameterNode(config).run)
            await until(lambda: node.counters["unknown peer"])
            await until_open(here)
            assert [row["origin_host"] for row in node.peer_states()] == [HSS]
            nursery.cancel_scope.cancel()

    trio.run(main)
