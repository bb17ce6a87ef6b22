"""What a bad peer sends costs that message: answered or dropped as RFC 6733 says, counted, and the node goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from attrs import evolve, frozen

from diameter.avp import Avp, Avps
from diameter.dictionary import base
from diameter.dictionary.sh import SH
from diameter.message import FLAG_ERROR, FLAG_REQUEST, FLAG_RETRANSMITTED, Message, Result
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.messages import PushNotificationRequest, UserIdentity
from tests.diameter.raw_peer import RawPeer, listen_raw
from tests.diameter.support import build_request, run_trio, until

HOST = "127.0.141.1"
BOB = "sip:bob@example.net"
UNKNOWN_MANDATORY = Avp(9999, b"odd", 0, 0x40)


def build_push(*extra: Avp, impu: str = BOB, xml: bytes = b"<Sh-Data/>") -> Message:
    message = PushNotificationRequest(
        session_id="raw;1;1",
        origin_host="raw",
        origin_realm="realm",
        destination_host="as",
        destination_realm="realm",
        user_identity=UserIdentity(public_identity=impu),
        user_data=xml,
    ).to_message()
    return evolve(message, avps=Avps([*message.avps, *extra]), hop_by_hop=77, end_to_end=78)


def without(message: Message, name: str) -> Message:
    return evolve(message, avps=Avps(avp for avp in message.avps if avp.key != SH[name].key))


def with_user(group: bytes) -> Message:
    """With these bytes as User-Identity."""
    message = without(build_push(), "User-Identity")
    return evolve(message, avps=Avps([*message.avps, Avp(700, group, 10415)]))


def with_header(message: Message, *, flags: int | None = None, length: int | None = None, version: int = 1) -> bytes:
    """The message with another header; the length need not be true."""
    frame = message.encode()
    size = len(frame) if length is None else length
    return bytes((version,)) + size.to_bytes(3) + (frame[4:5] if flags is None else bytes((flags,))) + frame[5:]


def with_tail(message: Message, tail: bytes) -> bytes:
    """The message with these bytes in place of further AVPs; the length is true."""
    frame = message.encode() + tail
    return frame[:1] + len(frame).to_bytes(3) + frame[4:]


@frozen
class Bad:
    """What is sent, and what becomes of it.

    Attributes:
        answer: the result that it is answered with, None for no answer.
        failed: key of the AVP in Failed-AVP.
        reason: the counter that tells.
        is_reset: the connection is closed.
    """

    name: str
    frame: bytes
    answer: Result | None = None
    reason: str = ""
    failed: tuple[int, int] | None = None
    is_reset: bool = False


PUSH = build_push()
UNKNOWN_USER = Result(5001, 10415)
PNR = 0xC0
BOMB = b'<!DOCTYPE a [<!ENTITY b "cccccccccc"><!ENTITY d "&b;&b;&b;&b;&b;&b;">]><Sh-Data>&d;&d;</Sh-Data>'
CASES = [
    # the boundary of messages is lost: nothing can follow on this connection
    Bad("length 0", with_header(PUSH, length=0), None, "message length wrong", is_reset=True),
    Bad("length 19", with_header(PUSH, length=19), None, "message length wrong", is_reset=True),
    Bad("length 22", with_header(PUSH, length=22), None, "message length wrong", is_reset=True),
    Bad("16 MB", with_header(PUSH, length=0xFFFFFC), None, "message length wrong", is_reset=True),
    Bad("100,000 AVPs", with_header(PUSH, length=20 + 8 * 100_000), None, "message length wrong", is_reset=True),
    Bad("version 2", with_header(PUSH, version=2), None, "version is not 1", is_reset=True),
    Bad("garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n", None, "version is not 1", is_reset=True),
    # header bits
    Bad("reserved bits", with_header(PUSH, flags=PNR | 0x0F), UNKNOWN_USER),
    Bad("T on the first", with_header(PUSH, flags=PNR | FLAG_RETRANSMITTED), UNKNOWN_USER),
    Bad("E in a request", with_header(PUSH, flags=PNR | FLAG_ERROR), Result(3008), "E bit in a request"),
    # AVPs
    Bad("unknown mandatory", build_push(UNKNOWN_MANDATORY).encode(), Result(5001), "unknown AVP with M bit", (0, 9999)),
    Bad("unknown optional", build_push(evolve(UNKNOWN_MANDATORY, flags=0)).encode(), UNKNOWN_USER),
    Bad(
        "unknown mandatory of a vendor",
        build_push(Avp(1, b"x", 4242, 0x40)).encode(),
        Result(5001),
        "unknown AVP with M bit",
        (4242, 1),
    ),
    Bad(
        "length beyond the end",
        with_tail(PUSH, b"\0\0\x01\x08\x40\0\0\x40abcd"),
        Result(5014),
        "AVP length wrong",
        (0, 264),
    ),
    Bad("length of 7", with_tail(PUSH, b"\0\0\x01\x08\x40\0\0\x07"), Result(5014), "AVP length wrong", (0, 264)),
    Bad("half a header", with_tail(PUSH, b"\0\0\x01\x08"), Result(5014), "AVP header cut short"),
    Bad("vendor cut off", with_tail(PUSH, b"\0\0\x01\x08\x80\0\0\x0c"), Result(5014), "AVP header cut short"),
    Bad("40,000 AVPs", with_tail(PUSH, b"\0\0\x27\x0f\0\0\0\x08" * 40_000), Result(5006), "too many AVPs"),
    Bad("no user", without(PUSH, "User-Identity").encode(), Result(5005), "AVP missing", SH["User-Identity"].key),
    Bad("no data", without(PUSH, "User-Data").encode(), Result(5005), "AVP missing", SH["User-Data"].key),
    Bad(
        "two users",
        build_push(SH["User-Identity"].avp([SH["Public-Identity"].avp(BOB)])).encode(),
        Result(5009),
        "AVP too often",
        SH["User-Identity"].key,
    ),
    Bad(
        "a broken group",
        with_user(b"abc").encode(),
        Result(5014),
        "AVP header cut short",
    ),
    Bad("identity not ASCII", build_push(impu="sip:\u00e9@x").encode(), UNKNOWN_USER),
    Bad(
        "identity not UTF-8",
        with_user(Avp(601, b"\xff\xfe", 10415).encode()).encode(),
        Result(5004),
        "text is not UTF-8",
        SH["Public-Identity"].key,
    ),
    # commands and documents
    Bad("unknown command", evolve(PUSH, code=4711).encode(), Result(3001), "command unsupported"),
    Bad("unknown application", evolve(PUSH, application_id=4711).encode(), Result(3007), "application unsupported"),
    Bad("a request of ours", evolve(PUSH, code=SH.command("UDR").code).encode(), Result(3001), "command unsupported"),
    Bad("no XML", build_push(xml=b"{}").encode(), Result(5100, 10415)),
    Bad("endless XML", build_push(xml=b"<Sh-Data>" + b"<a>" * 90_000).encode(), Result(5100, 10415)),
    Bad("entity bomb", build_push(xml=BOMB).encode(), Result(5100, 10415)),
    Bad("somebody else's user", build_push(impu="sip:eve@example.net").encode(), UNKNOWN_USER),
    Bad("looped", build_push(base.ROUTE_RECORD.avp("AS")).encode(), Result(3005), "own host in Route-Record"),
    # answers that nobody waits for
    Bad("answer to nobody", PUSH.build_answer([base.RESULT_CODE.avp(2001)]).encode(), None, "stray_answer"),
    Bad("answer without AVPs", evolve(PUSH, flags=0, avps=Avps()).encode(), None, "stray_answer"),
    Bad("unreadable answer", with_tail(evolve(PUSH, flags=0), b"\0\0\0\x01"), None, "AVP header cut short"),
]  # fmt: skip


def build_node(address: tuple[str, int], **config: Any) -> tuple[DiameterNode, ShClient]:
    client: ShClient

    async def on_request(message: Message, peer: str) -> Message | None:
        return client.receive_push(message)

    settings: dict[str, Any] = {"reconnect_first_s": 0.02, "wait_s": 1.0} | config
    node = DiameterNode(
        NodeConfig(origin_host="as", origin_realm="realm", peers=(PeerConfig(*address),), **settings),
        on_request=on_request,
    )
    client = ShClient(
        node, ShConfig(destination_realm="realm", server_name="sip:as.example.net", service_indication="ai")
    )
    return node, client


async def serve(peer: RawPeer) -> None:
    """Says yes to everything from now on; pushes of ours have been answered before."""
    while True:
        message = await peer.read()
        if message.is_request and message.application_id == 0:
            await peer.send(peer.commands.dwa(message))
        elif message.is_request:
            await peer.answer(message, 2001)


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_a_bad_message_costs_itself_alone(bad: Bad) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        n_connections = 0
        answers: list[Message] = []
        judged = trio.Event()

        async def script(peer: RawPeer) -> None:
            nonlocal n_connections
            await peer.accept()
            n_connections += 1
            if n_connections == 1:
                await peer.stream.send_all(bad.frame)
                if bad.answer is not None:
                    answers.append(await peer.read())
                if bad.is_reset:
                    assert await peer.is_closed()
                    judged.set()
                    return
                judged.set()
            await serve(peer)

        node, _ = build_node(await listen_raw(nursery, script, host=HOST))
        await nursery.start(node.run)
        await judged.wait()
        await node.wait_open()
        # whatever it was, the next request is carried out
        answer = await node.request(build_request(node), deadline_s=5.0)
        assert answer.result() == Result(2001)
        assert n_connections == (2 if bad.is_reset else 1)
        assert node.counters[bad.reason] == (1 if bad.reason else 0), node.counters
        assert [each.result() for each in answers] == ([bad.answer] if bad.answer is not None else [])
        for each in answers:
            assert (each.hop_by_hop, each.end_to_end) == (PUSH.hop_by_hop, PUSH.end_to_end)
            assert each.is_error == (3000 <= (each.result() or Result(0)).code < 4000)
            failed = each.group(base.FAILED_AVP)
            assert (failed[0].key if failed else None) == bad.failed

    run_trio(scenario)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("hop-by-hop", lambda answer: evolve(answer, hop_by_hop=answer.hop_by_hop ^ 1)),
        ("end-to-end", lambda answer: evolve(answer, end_to_end=answer.end_to_end ^ 1)),
        ("command", lambda answer: evolve(answer, code=307)),
    ],
)
def test_an_answer_with_wrong_ids_is_nobodys(name: str, spoil: Callable[[Message], Message]) -> None:
    """The right one that follows is taken."""

    async def scenario(nursery: trio.Nursery) -> None:
        async def script(peer: RawPeer) -> None:
            await peer.accept()
            request = await peer.read()
            right = request.build_answer([base.RESULT_CODE.avp(2001), *peer.commands.identity()])
            await peer.send(spoil(evolve(right, avps=Avps([*right.avps, base.ERROR_MESSAGE.avp("wrong")]))))
            await peer.send(right)
            await serve(peer)

        node, _ = build_node(await listen_raw(nursery, script, host=HOST))
        await nursery.start(node.run)
        await node.wait_open()
        answer = await node.request(build_request(node), deadline_s=5.0)
        assert answer.text(base.ERROR_MESSAGE) is None
        assert node.counters["stray_answer"] == 1
        assert node.n_pending == 0

    run_trio(scenario)


def test_an_unknown_mandatory_avp_in_an_answer_is_ignored() -> None:
    """RFC 6733 would reject it; HSSes put AVPs of later releases and of their makers into answers, and mean well."""

    async def scenario(nursery: trio.Nursery) -> None:
        async def script(peer: RawPeer) -> None:
            await peer.accept()
            request = await peer.read()
            await peer.answer(request, 2001, UNKNOWN_MANDATORY, Avp(1, b"x", 4242, 0x40))
            await serve(peer)

        node, _ = build_node(await listen_raw(nursery, script, host=HOST))
        await nursery.start(node.run)
        await node.wait_open()
        assert (await node.request(build_request(node), deadline_s=5.0)).result() == Result(2001)

    run_trio(scenario)


@pytest.mark.parametrize(
    ("cea", "reason"),
    [
        (lambda cea: evolve(cea, avps=Avps()), "capabilities_refused"),
        (lambda cea: evolve(cea, avps=Avps(avp for avp in cea.avps if avp.code != 264)), "capabilities_refused"),
        (lambda cea: evolve(cea, avps=Avps(avp for avp in cea.avps if avp.code != 268)), "capabilities_refused"),
        (lambda cea: evolve(cea, avps=Avps(avp for avp in cea.avps if avp.code != 260)), "no_common_application"),
        (lambda cea: evolve(cea, code=280), "peer_error"),
        (lambda cea: evolve(cea, flags=FLAG_REQUEST), "peer_error"),
        (lambda cea: PUSH, "peer_error"),
    ],
)
def test_a_bad_capabilities_answer_opens_nothing(cea: Callable[[Message], Message], reason: str) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        n_connections = 0

        async def script(peer: RawPeer) -> None:
            nonlocal n_connections
            n_connections += 1
            if n_connections > 1:
                await peer.accept()
                await serve(peer)
            request = await peer.read()
            await peer.send(cea(peer.commands.cea(request, HOST, 2001)))
            await peer.is_closed()

        node, _ = build_node(await listen_raw(nursery, script, host=HOST))
        await nursery.start(node.run)
        await node.wait_open()
        assert node.counters[reason] == 1, node.counters
        assert (n_connections, node.counters["link_up"]) == (2, 1)

    run_trio(scenario)


def test_a_peer_of_another_name_is_not_the_one_we_want() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(peer: RawPeer) -> None:
            await peer.accept()
            await serve(peer)

        host, port = await listen_raw(nursery, script, "impostor", host=HOST)
        node = DiameterNode(
            NodeConfig(
                origin_host="as",
                origin_realm="realm",
                peers=(PeerConfig(host, port, origin_host="hss.example.net"),),
                reconnect_first_s=0.02,
            )
        )
        await nursery.start(node.run)
        await until(lambda: node.counters["unexpected_origin_host"] >= 2)
        assert not node.is_open()

    run_trio(scenario)


def test_many_strays_are_counted_and_nothing_else() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        n_strays = 5000

        async def script(peer: RawPeer) -> None:
            await peer.accept()
            stray = PUSH.build_answer([base.RESULT_CODE.avp(2001)])
            for number in range(0, n_strays, 100):
                burst = (evolve(stray, hop_by_hop=number + i).encode() for i in range(100))
                await peer.stream.send_all(b"".join(burst))
            await serve(peer)

        node, _ = build_node(await listen_raw(nursery, script, host=HOST))
        await nursery.start(node.run)
        await until(lambda: node.counters["stray_answer"] == n_strays)
        assert (await node.request(build_request(node), deadline_s=5.0)).result() == Result(2001)
        assert node.counters["link_up"] == 1

    run_trio(scenario)
