"""Calls over TLS between endpoints, and what a TLS listener is sent."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import pytest
import trio

from ims_as.sip.invite_session import ReinviteReceived, SessionState
from ims_as.sip.timers import TimerConfig
from ims_as.transport import connection
from ims_as.transport.connection import StreamLimits
from ims_as.transport.endpoint import ClientEvent, Endpoint, ListenAddress, ResponseReceived, TransportFailure
from ims_as.transport.tls import TlsContexts, TlsOptions, TlsSetupError
from tests.support.certificates import Authority
from tests.support.sip_agents import OFFER, RecordingAgent
from tests.support.sip_messages import build_request, request_bytes

A, B, STRANGER = "127.0.94.1", "127.0.94.2", "127.0.94.3"
FAST = TimerConfig(t1=0.02, t2=0.04, t4=0.04, timer_d=0.04)


async def until(is_true: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not is_true():
            await trio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(15):
            await test()

    trio.run(bounded)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Pair:
    """a.example and b.example, who only speak TLS."""

    def __init__(self, a: TlsOptions, b: TlsOptions, **options: object) -> None:
        self.b = Endpoint(listen=[ListenAddress("tls", B, 0)], tls=b, timers=FAST, **options)  # type: ignore[arg-type]
        self.bob = RecordingAgent(self.b, lambda agent, session: session.answer(OFFER))
        self.bob.handlers[ReinviteReceived] = lambda session, event: session.accept_reinvite(OFFER) and None
        self._tls = a
        self.a: Endpoint
        self.alice: RecordingAgent
        self.events: list[ClientEvent] = []

    @property
    def port(self) -> int:
        return self.b.addresses[0].port

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.b.run)
            hosts = {f"{name}.example": (B, self.port) for name in ("b", "c")}
            self.a = Endpoint(listen=[ListenAddress("tls", A, 0)], tls=self._tls, timers=FAST, hosts=hosts)
            self.alice = RecordingAgent(self.a)
            await nursery.start(self.a.run)
            yield
            nursery.cancel_scope.cancel()

    async def ask(self, uri: str = "sip:b.example;transport=tls") -> ClientEvent:
        count = len(self.events)
        request = build_request("OPTIONS", uri=uri, call_id=f"ask-{count}")
        self.a.send_request(request, on_event=self.events.append)
        await until(lambda: len(self.events) > count)
        return self.events[-1]


def good(authority: Authority) -> tuple[TlsOptions, TlsOptions]:
    return (
        authority.options("a", uris=["sip:a.example"], addresses=[A]),
        authority.options("b", dns=["b.example"], addresses=[B]),
    )


@pytest.mark.parametrize("uri", ["sip:b.example;transport=tls", "sips:b.example"])
def test_call_with_reinvite_and_bye(authority: Authority, uri: str) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            session = pair.alice.call(uri)
            await until(lambda: pair.bob.sessions and pair.bob.sessions[0].state is SessionState.CONFIRMED)
            theirs, ours = pair.bob.sessions[0].dialog, session.dialog
            assert theirs is not None
            assert ours is not None
            port = pair.a.addresses[0].port
            if uri.startswith("sips"):
                assert theirs.remote_target == f"sips:{A}:{port}"
                assert ours.remote_target == f"sips:{B}:{pair.port}"
            else:
                assert theirs.remote_target == f"sip:{A}:{port};transport=tls"
            session.reinvite(OFFER)
            await until(lambda: "ReinviteAnswered" in pair.alice.names())
            pair.bob.sessions[0].bye()
            await until(lambda: session.is_terminated)
            await until(lambda: pair.a.stats.is_idle and pair.b.stats.is_idle)
            pair.alice.assert_one_end()
            pair.bob.assert_one_end()
            for endpoint in (pair.a, pair.b):
                assert not endpoint.counters.guard_errors
                assert not endpoint.counters.drops
                assert not endpoint.counters.retransmissions_out

    run(test)


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        ({"dns": ["b.example"], "days": (-3, -1)}, "certificate expired"),
        ({"dns": ["b.example"], "days": (1, 2)}, "certificate not yet valid"),
        ({"dns": ["b.example"], "self_signed": True}, "self-signed certificate"),
        ({"dns": ["other.example"]}, "certificate of somebody else"),
        ({"dns": ["*.example"]}, "certificate of somebody else"),
        # a domain's certificate names the domain by its URI alone where it has one
        ({"uris": ["sip:other.example"], "dns": ["b.example"]}, "certificate of somebody else"),
    ],
)
def test_server_with_a_wrong_certificate_is_refused(
    authority: Authority, issued: dict[str, object], reason: str
) -> None:
    async def test() -> None:
        pair = Pair(good(authority)[0], authority.options("wrong", **issued))
        async with pair.running():
            event = await pair.ask()
            assert isinstance(event, TransportFailure)
            assert event.reason == f"TLS: {reason}"
            assert pair.a.counters.drops[f"TLS: {reason}"] == 1
            await until(lambda: pair.b.n_connections == 0)
            assert not pair.b.counters.requests_in
            assert pair.a.n_connections == 0
            assert pair.a.stats.is_idle

    run(test)


@pytest.mark.parametrize(
    ("issued", "reason"),
    [
        ({"dns": ["a.example"], "days": (-3, -1)}, "certificate expired"),
        ({"dns": ["a.example"], "self_signed": True}, "self-signed certificate"),
        ({"dns": ["stranger.example"]}, "peer not listed"),
    ],
)
def test_client_with_a_wrong_certificate_is_refused(
    authority: Authority, issued: dict[str, object], reason: str
) -> None:
    async def test() -> None:
        b = authority.options("b", dns=["b.example"], peers=("a.example", "192.0.2.1"))
        pair = Pair(authority.options("wrong", **issued), b)
        async with pair.running():
            assert isinstance(await pair.ask(), TransportFailure)
            assert pair.b.counters.drops[f"TLS: {reason}"] == 1
            assert not pair.b.counters.requests_in
            assert pair.a.stats.is_idle

    run(test)


def test_listed_peer_is_let_in(authority: Authority) -> None:
    async def test() -> None:
        b = authority.options("b", dns=["b.example"], peers=("A.Example",))
        pair = Pair(good(authority)[0], b)
        async with pair.running():
            assert isinstance(await pair.ask(), ResponseReceived)

    run(test)


@pytest.mark.parametrize(("peers", "is_believed"), [(("b.example",), True), (("c.example",), False), ((), False)])
def test_listed_peer_may_be_addressed_by_its_address(
    authority: Authority, peers: tuple[str, ...], is_believed: bool
) -> None:
    """Few certificates name addresses; which of the peers listens there, the operator has said."""

    async def test() -> None:
        a = authority.options("a", dns=["a.example"], addresses=[A], peers=peers)
        pair = Pair(a, authority.options("b", dns=["b.example"]))
        async with pair.running():
            event = await pair.ask(f"sip:{B}:{pair.port};transport=tls")
            assert isinstance(event, ResponseReceived) is is_believed
            # names are compared as ever
            assert isinstance(await pair.ask("sip:c.example;transport=tls"), TransportFailure)

    run(test)


def test_certificate_of_another_authority(authority: Authority, tmp_path: Path) -> None:
    async def test() -> None:
        other = Authority(tmp_path, "other").options("foreign", dns=["b.example"])
        pair = Pair(good(authority)[0], attrs.evolve(other, ca=authority.ca))
        async with pair.running():
            event = await pair.ask()
            assert isinstance(event, TransportFailure)
            assert event.reason == "TLS: unknown authority"

    run(test)


def test_address_has_to_be_trusted_besides(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority), is_trusted=lambda host: host != A)
        async with pair.running():
            assert isinstance(await pair.ask(), TransportFailure)
            assert pair.b.counters.drops == {"untrusted": 1}

    run(test)


def test_connection_is_reused_for_the_same_domain_only(authority: Authority) -> None:
    async def test() -> None:
        b = authority.options("b", dns=["b.example"], addresses=[B])
        pair = Pair(good(authority)[0], b)
        async with pair.running():
            for uri in ("sip:b.example;transport=tls", "sips:B.EXAMPLE", f"sips:{B}:{pair.port}"):
                assert isinstance(await pair.ask(uri), ResponseReceived)
                assert pair.a.n_connections == 1
            # at the same address, but nobody has shown a certificate of it
            event = await pair.ask("sip:c.example;transport=tls")
            assert isinstance(event, TransportFailure)
            assert event.reason == "TLS: certificate of somebody else"
            assert isinstance(await pair.ask(), ResponseReceived)

    run(test)


def client_context(authority: Authority, *, name: str | None = "a") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(authority.ca)
    if name is not None:
        context.load_cert_chain(authority.directory / f"{name}.crt", authority.directory / f"{name}.key")
    return context


def test_client_without_certificate(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            stream = trio.SSLStream(await trio.open_tcp_stream(B, pair.port), client_context(authority, name=None))
            await stream.do_handshake()  # with TLS 1.3 the server has not seen our side of it yet
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
            await trio.aclose_forcefully(stream)
            await until(lambda: pair.b.counters.drops["TLS: no certificate"])
            assert not pair.b.counters.requests_in
            assert isinstance(await pair.ask(), ResponseReceived)

    run(test)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        context = client_context(authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        async with pair.running():
            stream = trio.SSLStream(await trio.open_tcp_stream(B, pair.port), context)
            with pytest.raises(trio.BrokenResourceError):
                await stream.do_handshake()
            await trio.aclose_forcefully(stream)
            await until(lambda: pair.b.counters.drops["TLS: TLS too old"])

    run(test)


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (request_bytes("OPTIONS"), "not TLS"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not TLS"),
        (b"\r\n\r\n", "closed by peer"),
        (b"\x16\x03\x01\x00\x05hello", None),
        (b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, None),
        (b"\x15\x03\x01\x00\x02\x02\x28", "not TLS"),
        (bytes(range(256)) * 300, "not TLS"),
        (b"", "closed by peer"),
    ],
)
def test_garbage_costs_its_own_connection_only(authority: Authority, garbage: bytes, reason: str | None) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            assert isinstance(await pair.ask(), ResponseReceived)
            async with await trio.open_tcp_stream(B, pair.port) as stream:
                with suppress(trio.BrokenResourceError):  # closed before it had all
                    await stream.send_all(garbage)
                    await stream.send_eof()
                await until(lambda: pair.b.counters.drops)
            ((counted, number),) = pair.b.counters.drops.items()
            assert number == 1
            assert counted.startswith("TLS: ")
            assert reason is None or counted == f"TLS: {reason}"
            assert not pair.b.counters.guard_errors
            assert isinstance(await pair.ask(), ResponseReceived)
            assert pair.a.n_connections == pair.b.n_connections == 1

    run(test)


def test_handshake_that_takes_too_long(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            assert isinstance(await pair.ask(), ResponseReceived)
            monkeypatch.setattr(connection, "HANDSHAKE_DEADLINE_S", 0.05)
            async with await trio.open_tcp_stream(B, pair.port) as stream:
                await stream.send_all(b"\x16\x03\x01")
                assert await stream.receive_some() == b""
            assert pair.b.counters.drops == {"TLS: timeout": 1}
            assert pair.b.n_connections == 1

    run(test)


def test_garbage_inside_tls(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            stream = trio.SSLStream(await trio.open_tcp_stream(B, pair.port), client_context(authority))
            await stream.send_all(b"A" * 70_000)
            await until(lambda: pair.b.n_connections == 0)
            await trio.aclose_forcefully(stream)
            assert pair.b.counters.parse_errors == {"header section too large": 1}
            assert isinstance(await pair.ask(), ResponseReceived)

    run(test)


def test_large_messages_and_many(authority: Authority) -> None:
    """More than a TLS record, and more than the kernel takes at once."""

    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            events: list[ClientEvent] = []
            for number in range(40):
                request = build_request("OPTIONS", uri="sips:b.example", call_id=f"big-{number}", body=b"x" * 100_000)
                if number >= 9:  # only so much is queued for a peer before it reads
                    await until(lambda n=number: len(events) >= n - 8)
                pair.a.send_request(request, on_event=events.append)
            await until(lambda: len(events) == 40)
            assert all(isinstance(event, ResponseReceived) for event in events)
            assert pair.a.n_connections == 1

    run(test)


def test_certificates_are_reloaded(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            assert isinstance(await pair.ask(), ResponseReceived)
            authority.issue("b", dns=["c.example"])
            pair.b.reload_tls()
            assert isinstance(await pair.ask(), ResponseReceived)  # on the connection that is open
            assert isinstance(await pair.ask("sip:c.example;transport=tls"), ResponseReceived)
            (authority.directory / "b.key").write_text("nonsense")
            with pytest.raises(TlsSetupError, match="certificate or key cannot be used"):
                pair.b.reload_tls()
            pair.a.reload_tls()
            assert isinstance(await pair.ask("sip:c.example;transport=tls"), ResponseReceived)

    run(test)


def test_keys_from_anywhere(authority: Authority) -> None:
    certificate, key = authority.issue("plain")
    TlsContexts(TlsOptions(certificate, key=key.read_text().strip()))
    both = authority.directory / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    TlsContexts(TlsOptions(both))
    certificate, key = authority.issue("locked", password="secret")
    TlsContexts(TlsOptions(certificate, key_file=key, key_password="secret"))
    assert "secret" not in repr(TlsOptions(certificate, key="secret", key_password="secret"))


def test_files_that_cannot_be_used(authority: Authority) -> None:
    certificate, key = authority.issue("good")
    other_key = authority.issue("locked", password="secret")[1]
    missing = authority.directory / "missing"
    for options in (
        TlsOptions(missing),
        TlsOptions(certificate),
        TlsOptions(certificate, key="nonsense"),
        TlsOptions(certificate, key_file=other_key),
        TlsOptions(certificate, key_file=other_key, key_password="wrong"),
        TlsOptions(certificate, key_file=key, ca=missing),
        TlsOptions(certificate, key_file=key, ca=key),
    ):
        with pytest.raises(TlsSetupError):
            TlsContexts(options)


def test_tls_without_certificate() -> None:
    with pytest.raises(ValueError, match="needs a certificate"):
        Endpoint(listen=[ListenAddress("tls", A, 0)])


def test_nobody_is_checked_where_that_is_wanted(authority: Authority, tmp_path: Path) -> None:
    async def test() -> None:
        other = Authority(tmp_path, "other").options("foreign", dns=["x.example"])
        pair = Pair(attrs.evolve(other, verify_peer=False), attrs.evolve(other, verify_peer=False))
        async with pair.running():
            assert isinstance(await pair.ask(), ResponseReceived)
            with socket.create_connection((B, pair.port)):
                await until(lambda: pair.b.n_connections == 2)

    run(test)


async def open_stream(authority: Authority, pair: Pair, name: str = "a") -> trio.SSLStream[trio.SocketStream]:
    """From A's address, where its listener is."""
    plain = await trio.open_tcp_stream(B, pair.port, local_address=A)
    return trio.SSLStream(plain, client_context(authority, name=name))


@pytest.mark.parametrize(
    ("via", "is_reused"),
    [
        ("SIP/2.0/TLS 127.0.94.1:{port};branch=z9hG4bK1;alias", True),
        ("SIP/2.0/TLS a.example:{port};branch=z9hG4bK1;alias;rport", True),
        ("SIP/2.0/TLS 127.0.94.1:{port};branch=z9hG4bK1", False),
        # a certificate of somebody else than the Via names
        ("SIP/2.0/TLS other.example:{port};branch=z9hG4bK1;alias", False),
    ],
)
def test_requests_go_back_on_a_connection_with_alias(authority: Authority, via: str, is_reused: bool) -> None:
    """RFC 5923."""

    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            port = pair.a.addresses[0].port
            stream = await open_stream(authority, pair)
            await stream.send_all(request_bytes("OPTIONS", via=via.format(port=port)))
            assert (await stream.receive_some()).startswith(b"SIP/2.0 200")
            events: list[ClientEvent] = []
            pair.b.send_request(build_request("OPTIONS", uri=f"sips:{A}:{port}"), on_event=events.append)
            if is_reused:
                received = await stream.receive_some()
                assert received.startswith(b"OPTIONS sips:127.0.94.1")
                assert b";alias\r\n" in received
                assert pair.b.n_connections == 1
            else:
                await until(lambda: events)
                assert isinstance(events[0], ResponseReceived)
                assert pair.b.n_connections == 2
            await trio.aclose_forcefully(stream)
            await until(lambda: events)
            # when it is gone, so is its alias
            pair.b.send_request(build_request("OPTIONS", uri=f"sips:{A}:{port}", call_id="2"), on_event=events.append)
            await until(lambda: len(events) == 2)
            assert isinstance(events[1], ResponseReceived)
            assert isinstance(events[0], TransportFailure) is is_reused

    run(test)


def test_number_of_aliases_is_bounded(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            stream = await open_stream(authority, pair)
            for port in range(10000, 10050):
                via = f"SIP/2.0/TLS 127.0.94.1:{port};branch=z9hG4bK{port};alias"
                await stream.send_all(request_bytes("OPTIONS", via=via, call_id=f"call-{port}"))
            await until(lambda: pair.b.counters.responses_out[200] == 50)
            assert len(pair.b._streams._by_remote) == 5
            await trio.aclose_forcefully(stream)
            await until(lambda: pair.b.n_connections == 0)
            assert not pair.b._streams._by_remote
            assert not pair.b._streams._aliases
            assert not pair.b._streams._accepted

    run(test)


def test_no_alias_without_certificate(authority: Authority, tmp_path: Path) -> None:
    async def test() -> None:
        options = attrs.evolve(good(authority)[1], verify_peer=False)
        pair = Pair(good(authority)[0], options)
        async with pair.running():
            stream = await open_stream(authority, pair)
            via = "SIP/2.0/TLS 127.0.94.1:5061;branch=z9hG4bK1;alias"
            await stream.send_all(request_bytes("OPTIONS", via=via))
            await stream.receive_some()
            assert len(pair.b._streams._by_remote) == 1
            await trio.aclose_forcefully(stream)

    run(test)


@pytest.mark.parametrize("is_polite", [True, False])
def test_peer_that_closes(authority: Authority, is_polite: bool) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        async with pair.running():
            stream = await open_stream(authority, pair)
            await stream.send_all(request_bytes("OPTIONS"))
            await stream.receive_some()
            if is_polite:
                await stream.aclose()
            else:
                await trio.aclose_forcefully(stream)
            await until(lambda: pair.b.n_connections == 0)
            assert not pair.b.counters.drops

    run(test)


def test_we_say_that_we_close(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority), streams=StreamLimits(idle_s=0.05))
        async with pair.running():
            stream = await open_stream(authority, pair)
            await stream.send_all(request_bytes("OPTIONS"))
            received = b""
            while data := await stream.receive_some():  # an end without close_notify would be an error
                received += data
            assert received.startswith(b"SIP/2.0 200")
            await stream.aclose()

    run(test)


def test_peer_that_does_not_read_does_not_keep_us_from_stopping(authority: Authority) -> None:
    async def test() -> None:
        pair = Pair(*good(authority))
        with trio.fail_after(5):
            async with pair.running():
                stream = await open_stream(authority, pair)
                stream.transport_stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await stream.send_all(request_bytes("OPTIONS"))
                await until(lambda: pair.b.n_connections == 1 and pair.b.counters.responses_out)
                (accepted,) = pair.b._streams._connections.values()
                for _ in range(9):
                    accepted.send(b"x" * 100_000)
                await trio.sleep(0.05)
            await trio.aclose_forcefully(stream)

    run(test)
