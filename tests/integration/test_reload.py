"""The configuration changes, and the node drains, while a call is up."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import httpx
import trio

from ims_as.sip.invite_session import Answered, Ended, ReinviteAnswered, Rejected
from tests.support.certificates import Authority
from tests.support.world import Leg, Signalling, World, until, world


async def answered(here: World) -> Leg:
    leg = here.call()
    await leg.wait(Answered)
    return leg


async def hang_up_by(here: World, leg: Leg) -> None:
    """The call is alive: it takes a re-INVITE, hears its engine, and ends in order."""
    leg.session.reinvite(here.caller_rtp.offer(version=2))
    await leg.wait(ReinviteAnswered)
    leg.session.bye()
    await leg.wait(Ended)


async def reloads(here: World, outcome: str, count: int = 1) -> None:
    wanted = f'ims_as_config_reloads_total{{outcome="{outcome}"}} {float(count)}'
    await until(lambda: wanted in here.app.metrics.render()[0].decode())


def test_a_call_goes_on_while_new_calls_find_the_new_configuration():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            here.overrides = (
                "limits.calls=1",
                "agents.default.greeting=Good evening",
                "policy.destinations=[{allow: {prefixes: ['+4930']}}]",
                "media.workers=2",
                "log.level=error",
            )
            signal.raise_signal(signal.SIGHUP)
            await reloads(here, "applied")
            context = here.app.context
            assert context.config.agents["default"].greeting == "Good evening"
            assert context.destinations.check("tel:+4930123456").allowed
            assert context.config.media.workers == 1  # waits for a restart
            events = here.app.metrics.render()[0].decode()
            assert 'ims_as_operator_events_total{id="CONFIG_NEEDS_RESTART"} 1.0' in events

            second = here.call()
            assert (await second.wait(Rejected)).status == 503  # one call is up, one is allowed now
            await hang_up_by(here, leg)
            await here.until_idle()
            third = await answered(here)
            start = [event for event in here.engine.events if event["event"] == "start"][-1]
            assert start["greeting"] == "Good evening"
            await hang_up_by(here, third)

    trio.run(main)


def test_a_bad_file_changes_nothing():
    async def main() -> None:
        async with world("limits.calls=7") as here:
            leg = await answered(here)
            here.overrides = ("limits.calls=0", "agents.default.engines=[]")
            signal.raise_signal(signal.SIGHUP)
            await reloads(here, "rejected")
            assert here.app.context.admission.max_calls == 7
            text = here.app.metrics.render()[0].decode()
            assert 'ims_as_operator_events_total{id="CONFIG_REJECTED"} 1.0' in text
            assert (await here.app.reload()).problems
            await hang_up_by(here, leg)
            here.overrides = ("limits.calls=7",)
            assert (await here.app.reload()).outcome == "unchanged"
            await hang_up_by(here, await answered(here))

    trio.run(main)


def test_who_is_no_longer_trusted_gets_no_answer_and_loses_the_connection():
    async def main() -> None:
        async with world() as here:
            stream = await trio.open_tcp_stream(here.as_address, 5060)
            assert (await here.request("OPTIONS")).status == 200
            here.overrides = ('sip.trusted_peers=["192.0.2.0/24"]',)
            outcome = await here.app.reload()
            assert outcome.applied == ("sip.trusted_peers",)
            with trio.fail_after(5):
                assert await stream.receive_some() == b""
            await stream.aclose()
            assert not here.app.endpoint.is_trusted(here.core_address)
            here.overrides = ()
            await here.app.reload()
            assert (await here.request("OPTIONS")).status == 200

    trio.run(main)


def test_reload_over_the_api(tmp_path: Path):
    (tmp_path / "token").write_text("secret")
    token = f"api.token={{file: {tmp_path}/token}}"

    async def main() -> None:
        async with world(token) as here:
            here.overrides = (token, "limits.calls=3")
            async with httpx.AsyncClient(trust_env=False) as client:
                url = f"http://{here.as_address}:8080/reload"
                response = await client.post(url, headers={"authorization": "Bearer secret"})
                assert response.json()["applied"] == ["limits.calls"]
                assert (await client.post(url)).status_code == 401
            assert here.app.context.admission.max_calls == 3

    trio.run(main)


# ---------------------------------------------------------------- drain


def test_drain_refuses_new_calls_and_waits_for_the_old():
    async def main() -> None:
        async with world() as here:
            leg = await answered(here)
            await here.app.drain()
            await here.app.drain()
            second = here.call()
            rejected = await second.wait(Rejected)
            assert rejected.status == 503
            assert rejected.response is not None
            assert rejected.response.headers.get("Retry-After") == "2"
            assert (await here.request("OPTIONS")).status == 503
            await hang_up_by(here, leg)
            done = 'ims_as_operator_events_total{id="DRAIN_DONE"} 1.0'
            await until(lambda: done in here.app.metrics.render()[0].decode())
            assert (await here.request("OPTIONS")).status == 503  # it goes on, until it is stopped

    trio.run(main)


def test_drain_ends_what_does_not_end_by_itself():
    async def main() -> None:
        async with world("limits.drain_s=1") as here:
            leg = await answered(here)
            began = trio.current_time()
            await here.app.drain()
            ended = await leg.wait(Ended)
            assert ended.by == "remote"
            assert 0.8 < trio.current_time() - began < 2.0

    trio.run(main)


def test_a_call_ends_in_order_before_a_stopped_server_ends():
    async def main() -> None:
        async with world("limits.drain_s=3600") as here:
            leg = await answered(here)
            signal.raise_signal(signal.SIGTERM)
            with trio.fail_after(5):
                while not here.app.context.admission.draining:
                    await trio.sleep(0.01)
            second = here.call()
            assert (await second.wait(Rejected)).status == 503
            await hang_up_by(here, leg)
            stopped = 'ims_as_operator_events_total{id="SERVER_STOPPED"} 1.0'
            await until(lambda: stopped in here.app.metrics.render()[0].decode())

    trio.run(main)


def test_a_second_signal_does_not_wait():
    async def main() -> None:
        async with world("limits.drain_s=3600") as here:
            leg = await answered(here)
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep(0.05)
            signal.raise_signal(signal.SIGTERM)
            assert (await leg.wait(Ended)).by == "remote"

    trio.run(main)


# ---------------------------------------------------------------- certificates


async def shown_certificate(here: World, context: ssl.SSLContext) -> bytes:
    stream = trio.SSLStream(await trio.open_tcp_stream(here.as_sip.host, here.as_sip.port), context)
    await stream.do_handshake()
    certificate = stream.getpeercert(binary_form=True)
    await trio.aclose_forcefully(stream)
    assert isinstance(certificate, bytes)
    return certificate


def test_a_renewed_certificate_is_shown_and_a_call_goes_on(tmp_path: Path):
    authority = Authority(tmp_path)

    async def main() -> None:
        async with world(sip=Signalling("tls", False, authority)) as here:
            leg = await answered(here)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.load_cert_chain(*authority.issue("known", dns=["known.example"]))
            before = await shown_certificate(here, context)
            assert await shown_certificate(here, context) == before
            signal.raise_signal(signal.SIGHUP)  # the world issues a new one, under the same names
            await reloads(here, "unchanged")
            assert await shown_certificate(here, context) != before
            await hang_up_by(here, leg)

    trio.run(main)


def test_a_certificate_that_cannot_be_used_changes_nothing(tmp_path: Path):
    async def main() -> None:
        async with world(sip=Signalling("tls", False, Authority(tmp_path))) as here:
            leg = await answered(here)
            config = here.app.config
            source = here.app._reloader
            source._source = lambda: (config, [])  # the file is good, what it names is not
            certificate = config.sip.tls.certificate if config.sip.tls is not None else tmp_path
            certificate.write_text("nothing")
            outcome = await here.app.reload()
            assert outcome.outcome == "rejected"
            assert outcome.problems[0].startswith("sip.tls: certificate or key cannot be used")
            await hang_up_by(here, leg)

    trio.run(main)
