"""The lab's HSS as a network element: Sh rules, Cx for an S-CSCF, two of them for one client, noise on its port."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import evolve
from lxml import etree

from conformance.lab.hss import LabHss, Subscriber
from diameter.avp import Avp, Avps
from diameter.base_commands import CX_APPLICATION, SH_APPLICATION
from diameter.dictionary import base
from diameter.dictionary.cx import CX
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, SH
from diameter.errors import LocalDiameterError
from diameter.message import Message, Result
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)
from diameter.sh.userdata import parse_sh_data_untrusted, write_repository_data
from tests.diameter.support import run_trio, until

HOST = "127.0.77.3"
BOB = "sip:bob@example.net"
SCSCF = "sip:127.0.0.20:5060"
IFCS = b"""<IFCs><InitialFilterCriteria><Priority>0</Priority><ApplicationServer>
<ServerName>sip:127.0.0.30:5060</ServerName></ApplicationServer></InitialFilterCriteria></IFCs>"""
NOTIF_EFF = (SupportedFeatures(FEATURE_NOTIF_EFF),)


def experimental(code: int) -> Result:
    return Result(code, 10415)


def build_bob() -> Subscriber:
    return Subscriber("bob@example.net", (BOB, "tel:+15550100"), {b"ai": b"<a/>"}, IFCS, password="secret")


def build_hss(name: str = "hss", host: str = HOST, **changes: Any) -> LabHss:
    return LabHss(host, 0, {"bob": build_bob()}, origin_host=name, origin_realm="realm", **changes)


def build_node(*hsses: LabHss, on_request: Any = None, name: str = "as") -> DiameterNode:
    return DiameterNode(
        NodeConfig(
            origin_host=name,
            origin_realm="realm",
            peers=tuple(PeerConfig(*hss.address) for hss in hsses),
            applications=(SH_APPLICATION, CX_APPLICATION),
            reconnect_first_s=0.02,
        ),
        on_request=on_request,
    )


def run_hss(scenario: Callable[[LabHss, DiameterNode], Awaitable[None]]) -> None:
    async def inside(nursery: trio.Nursery) -> None:
        hss = build_hss()
        await nursery.start(hss.run)
        node = build_node(hss)
        await nursery.start(node.run)
        await node.wait_open()
        await scenario(hss, node)

    run_trio(inside)


def head(node: DiameterNode, impu: str | None = BOB, **identity: str) -> dict[str, Any]:
    user = UserIdentity(public_identity=impu) if not identity else UserIdentity(**identity)
    return {
        "session_id": node.new_session_id(),
        "origin_host": node.origin_host,
        "origin_realm": "realm",
        "destination_realm": "realm",
        "user_identity": user,
    }


async def pull(
    node: DiameterNode, impu: str = BOB, *, identity: dict[str, str] | None = None, **ask: Any
) -> UserDataAnswer:
    request = UserDataRequest(**head(node, impu, **(identity or {})), **ask)
    return UserDataAnswer.read_untrusted(await node.request(request.to_message(), deadline_s=2.0))


async def update(node: DiameterNode, number: int, service_data: bytes | None, **changes: Any) -> Result:
    ask: dict[str, Any] = {"data_references": (0,), "user_data": write_repository_data(b"ai", number, service_data)}
    request = ProfileUpdateRequest(**(head(node) | ask | changes))
    return ProfileUpdateAnswer.read_untrusted(await node.request(request.to_message(), deadline_s=2.0)).result


async def subscribe(node: DiameterNode, **ask: Any) -> SubscribeNotificationsAnswer:
    request = SubscribeNotificationsRequest(**head(node), **ask)
    return SubscribeNotificationsAnswer.read_untrusted(await node.request(request.to_message(), deadline_s=2.0))


async def ask_cx(node: DiameterNode, command: str, *avps: Avp | None) -> Message:
    message = CX.command(command).message(
        [
            base.SESSION_ID.avp(node.new_session_id()),
            CX_APPLICATION.avp(),
            base.AUTH_SESSION_STATE.avp(1),
            base.ORIGIN_HOST.avp("scscf"),
            base.ORIGIN_REALM.avp("realm"),
            base.DESTINATION_REALM.avp("realm"),
            *avps,
        ]
    )
    answer = await node.request(message, deadline_s=2.0)
    definition = CX.find_command(answer)
    assert definition is not None
    CX.check_untrusted(answer, definition)
    return answer


def test_pull_by_any_identity() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        for identity in ({}, {"msisdn": "15550100"}, {"public_identity": "tel:+15550100"}):
            answer = await pull(node, identity=identity, data_references=[17])
            assert answer.result.is_success
            assert parse_sh_data_untrusted(answer.user_data or b"").msisdns == ("15550100",)
        unknown = await pull(node, "sip:eve@example.net", data_references=[11])
        assert unknown.result == experimental(5001)
        assert unknown.user_data is None

    run_hss(scenario)


def test_several_references_need_the_feature() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        ask: dict[str, Any] = {"data_references": [0, 10, 11], "service_indications": [b"ai"]}
        assert (await pull(node, **ask)).result == Result(5009)
        answer = await pull(node, **ask, supported_features=NOTIF_EFF)
        assert answer.features == FEATURE_NOTIF_EFF
        data = parse_sh_data_untrusted(answer.user_data or b"")
        assert data.alias_identities == (BOB, "tel:+15550100")
        assert data.user_state == 0

    run_hss(scenario)


def test_data_that_does_not_exist_is_success() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        ask: dict[str, Any] = {"data_references": [0], "service_indications": [b"other"]}
        plain = await pull(node, **ask)
        assert (plain.result.is_success, plain.user_data) == (True, None)
        rich = await pull(node, **ask, supported_features=NOTIF_EFF)
        item = parse_sh_data_untrusted(rich.user_data or b"").find_repository(b"other")
        assert item is not None
        assert item.service_data is None

    run_hss(scenario)


@pytest.mark.parametrize(("references", "missing"), [([13], 602), ([0], 704)])
def test_keys_that_a_reference_needs(references: list[int], missing: int) -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        request = UserDataRequest(**head(node), data_references=references).to_message()
        answer = await node.request(request, deadline_s=2.0)
        failed = answer.group(base.FAILED_AVP)
        assert answer.result() == Result(5005)
        assert failed is not None
        assert failed[0].code == missing

    run_hss(scenario)


def test_permissions_and_kinds_of_data() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        assert (await pull(node, data_references=[14])).result == experimental(5101)
        hss.sh.denied = {0, 11}
        assert (await pull(node, data_references=[11])).result == experimental(5102)
        assert await update(node, 1, b"<b/>") == experimental(5103)
        assert (await subscribe(node, data_references=[11])).result == experimental(5104)

    run_hss(scenario)


def test_only_the_criteria_of_the_asking_server() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        for name, count in (("sip:127.0.0.30:5060", 1), ("sip:orig@127.0.0.30;lr", 1), ("sip:127.0.0.31", 0)):
            answer = await pull(node, data_references=[13], server_name=name)
            ifcs = parse_sh_data_untrusted(answer.user_data or b"").ifcs or b""
            assert ifcs.count(b"<InitialFilterCriteria>") == count

    run_hss(scenario)


def test_sequence_numbers_of_repository_data() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        bob = hss.find(BOB)
        assert bob is not None
        success, out_of_sync = Result(2001), experimental(5105)
        assert await update(node, 0, b"<b/>") == out_of_sync  # it exists
        assert await update(node, 2, b"<b/>") == out_of_sync
        assert await update(node, 1, b"<b/>") == success
        assert await update(node, 1, b"<b/>") == out_of_sync
        bob.sequences[b"ai"] = 65535
        assert await update(node, 0, b"<b/>") == out_of_sync
        assert await update(node, 1, b"<c/>") == success
        assert await update(node, 2, None) == success
        assert bob.repository == {}
        assert await update(node, 3, b"<d/>") == out_of_sync
        assert await update(node, 0, None) == experimental(5101)
        assert await update(node, 0, b"<d/>") == success
        assert bob.repository == {b"ai": b"<d/>"}

    run_hss(scenario)


def test_updates_that_are_refused() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        assert await update(node, 1, b"<b/>", user_data=b"<Sh-Data>") == experimental(5100)
        assert await update(node, 1, b"<b/>", user_data=b"<Sh-Data/>") == experimental(5100)
        assert await update(node, 1, b"<b/>", data_references=(11,)) == experimental(5101)
        assert await update(node, 1, b"<b/>", user_name="eve@example.net") == experimental(5002)
        assert await update(node, 1, b"<b>" + b"x" * 40_000 + b"</b>") == experimental(5008)
        assert await update(node, 1, b"<b/>", user_identity=UserIdentity("sip:eve@example.net")) == experimental(5001)

    run_hss(scenario)


def test_subscriptions() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        answer = await subscribe(
            node, data_references=[0], service_indications=[b"ai"], send_data_indication=1, subs_req_type=0
        )
        assert parse_sh_data_untrusted(answer.user_data or b"").find_repository(b"ai") is not None
        assert len(hss.sh.subscriptions) == 1
        absent = await subscribe(node, data_references=[0], service_indications=[b"none"])
        assert absent.result == experimental(5106)
        assert (await subscribe(node, data_references=[17])).result == experimental(5101)
        for _ in range(2):  # unsubscribing twice is no error
            gone = await subscribe(node, data_references=[0], service_indications=[b"ai"], subs_req_type=1)
            assert gone.result.is_success
        assert hss.sh.subscriptions == set()

    run_hss(scenario)


def test_who_updates_is_not_notified_but_the_others_are() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = build_hss()
        await nursery.start(hss.run)
        pushed: dict[str, list[Message]] = {"one": [], "two": []}
        nodes = {}
        for name in pushed:

            async def receive(message: Message, peer: str, name: str = name) -> Message | None:
                pushed[name].append(message)
                return message.build_answer([base.RESULT_CODE.avp(2001)])

            nodes[name] = build_node(hss, on_request=receive, name=name)
            await nursery.start(nodes[name].run)
            await nodes[name].wait_open()
            await subscribe(nodes[name], data_references=[0], service_indications=[b"ai"])
        assert await update(nodes["one"], 1, b"<b/>") == Result(2001)
        await until(lambda: hss.n_pushed == 1)
        assert pushed["one"] == []
        push = pushed["two"][0]
        assert push.text(base.DESTINATION_HOST) == "two"
        data = parse_sh_data_untrusted(push.octets(SH["User-Data"]) or b"")
        assert data.repository[0].service_data == b"<b/>"

    run_trio(scenario)


def test_subscriber_that_refuses_a_push_gets_no_more() -> None:
    async def refuse(message: Message, peer: str) -> Message | None:
        return message.build_answer([base.RESULT_CODE.avp(5012)])

    async def scenario(nursery: trio.Nursery) -> None:
        hss = build_hss()
        await nursery.start(hss.run)
        node = build_node(hss, on_request=refuse)
        await nursery.start(node.run)
        await node.wait_open()
        await subscribe(node, data_references=[11])
        hss.set_registration(BOB, 1, SCSCF)
        await until(lambda: hss.sh.subscriptions == set())
        with pytest.raises(LocalDiameterError):
            hss.set_registration("sip:eve@example.net", 1, SCSCF)

    run_trio(scenario)


def credentials(impu: str = BOB, impi: str = "bob@example.net") -> list[Avp]:
    return [base.USER_NAME.avp(impi), CX["Public-Identity"].avp(impu)]


def assignment(kind: int) -> list[Avp]:
    return [
        CX["Server-Name"].avp(SCSCF),
        CX["Server-Assignment-Type"].avp(kind),
        CX["User-Data-Already-Available"].avp(0),
    ]


def challenge(scheme: str) -> list[Avp]:
    return [
        CX["SIP-Number-Auth-Items"].avp(1),
        CX["SIP-Auth-Data-Item"].avp([CX["SIP-Authentication-Scheme"].avp(scheme)]),
        CX["Server-Name"].avp(SCSCF),
    ]


def test_registration_as_an_s_cscf_does_it() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        bob = hss.find(BOB)
        assert bob is not None
        visited = CX["Visited-Network-Identifier"].avp(b"realm")
        first = await ask_cx(node, "UAR", *credentials(), visited)
        assert first.result() == experimental(2001)
        capabilities = first.group(CX["Server-Capabilities"])
        assert capabilities is not None
        assert CX["Server-Name"].text(capabilities) == SCSCF

        maa = await ask_cx(node, "MAR", *credentials(), *challenge("Digest-MD5"))
        item = maa.group(CX["SIP-Auth-Data-Item"])
        assert item is not None
        assert CX["SIP-Authentication-Scheme"].text(item) == "Digest-MD5"
        assert len(CX["SIP-Authenticate"].octets(item) or b"") == 16
        assert CX["SIP-Authorization"].octets(item) == b"secret"
        assert maa.text(base.USER_NAME) == "bob@example.net"
        assert maa.text(CX["Public-Identity"]) == BOB
        assert bob.state == 3

        saa = await ask_cx(node, "SAR", *credentials(), *assignment(1))
        profile = etree.fromstring(saa.octets(CX["User-Data"]) or b"")
        assert profile.tag == "IMSSubscription"
        assert profile.findtext("PrivateID") == "bob@example.net"
        identities = [element.text for element in profile.iterfind("ServiceProfile/PublicIdentity/Identity")]
        assert identities == [BOB, "tel:+15550100"]
        assert profile.findtext("ServiceProfile/InitialFilterCriteria/ApplicationServer/ServerName") is not None
        assert (bob.state, bob.scscf_name) == (1, SCSCF)

        again = await ask_cx(node, "UAR", *credentials(), visited)
        assert again.result() == experimental(2002)
        located = await ask_cx(node, "LIR", CX["Public-Identity"].avp("tel:+15550100"))
        assert (located.result(), located.text(CX["Server-Name"])) == (Result(2001), SCSCF)

        gone = await ask_cx(node, "SAR", *credentials(), *assignment(5))
        assert gone.octets(CX["User-Data"]) is None
        assert (bob.state, bob.scscf_name) == (0, "")

    run_hss(scenario)


def test_unregistered_user_is_served_where_criteria_exist() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        bob = hss.find(BOB)
        assert bob is not None
        located = await ask_cx(node, "LIR", CX["Public-Identity"].avp(BOB))
        assert located.result() == experimental(2003)
        saa = await ask_cx(node, "SAR", CX["Public-Identity"].avp(BOB), *assignment(3))
        assert saa.octets(CX["User-Data"]) is not None
        assert bob.state == 2
        hss.add(Subscriber("ann@example.net", ("sip:ann@example.net",)))
        nobody = await ask_cx(node, "LIR", CX["Public-Identity"].avp("sip:ann@example.net"))
        assert nobody.result() == experimental(5003)

    run_hss(scenario)


def test_sip_digest_and_schemes_that_we_lack() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        maa = await ask_cx(node, "MAR", *credentials(), *challenge("SIP Digest"))
        item = maa.group(CX["SIP-Auth-Data-Item"])
        assert item is not None
        digest = CX["SIP-Digest-Authenticate"].group(item)
        assert digest is not None
        expected = hashlib.md5(b"bob@example.net:realm:secret").hexdigest()
        assert CX["Digest-HA1"].text(digest) == expected
        aka = await ask_cx(node, "MAR", *credentials(), *challenge("Digest-AKAv1-MD5"))
        assert aka.result() == experimental(5006)

    run_hss(scenario)


def test_failed_authentication_leaves_the_user_as_before() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        bob = hss.find(BOB)
        assert bob is not None
        await ask_cx(node, "MAR", *credentials(), *challenge("Digest-MD5"))
        await ask_cx(node, "SAR", *credentials(), *assignment(9))
        assert (bob.state, bob.scscf_name) == (0, "")

    run_hss(scenario)


def test_identities_that_do_not_fit() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        unknown = await ask_cx(node, "SAR", *credentials("sip:eve@example.net"), *assignment(1))
        assert unknown.result() == experimental(5001)
        stolen = await ask_cx(node, "SAR", *credentials(impi="eve@example.net"), *assignment(1))
        assert stolen.result() == experimental(5002)
        odd = Message(399, 16777216, 0xC0, Avps([base.SESSION_ID.avp("s")]))
        assert (await node.request(odd, deadline_s=2.0)).result() == Result(3001)

    run_hss(scenario)


def test_registration_over_cx_is_pushed_over_sh() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = build_hss()
        await nursery.start(hss.run)
        client: ShClient

        async def receive(message: Message, peer: str) -> Message | None:
            return client.receive_push(message)

        node = build_node(hss, on_request=receive)
        client = ShClient(
            node, ShConfig(destination_realm="realm", server_name="sip:127.0.0.30", service_indication="ai")
        )
        await nursery.start(node.run)
        await nursery.start(client.run)
        await node.wait_open()
        assert (await client.fetch(BOB)).user_state == 0
        await until(lambda: client.stats.subscriptions == 1)
        await ask_cx(node, "MAR", *credentials(), *challenge("Digest-MD5"))
        await ask_cx(node, "SAR", *credentials(), *assignment(1))
        await until(lambda: client.stats.pushes == 2)
        assert client.cached(BOB).user_state == 1  # type: ignore[union-attr]

    run_trio(scenario)


def test_first_of_two_hsses_is_killed_in_the_middle_and_no_pull_fails() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = build_hss("first"), build_hss("second", host="127.0.77.4")
        life: trio.CancelScope = await nursery.start(run_until_cancelled, first)
        await nursery.start(second.run)
        first.delay_s = second.delay_s = 0.003
        node = build_node(first, second)
        await nursery.start(node.run)
        await node.wait_open(2)
        answered = 0

        async def ask() -> None:
            nonlocal answered
            for _ in range(15):
                assert (await pull(node, data_references=[11])).result.is_success
                answered += 1

        async with trio.open_nursery() as calls:
            for _ in range(10):
                calls.start_soon(ask)
            await until(lambda: answered > 40)
            life.cancel()
        assert answered == 150
        assert len(first.requests) > 40
        assert any(record.message.is_retransmitted for record in second.requests)
        assert node.n_pending == 0

    run_trio(scenario)


async def run_until_cancelled(
    hss: LabHss, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(hss.run)
            task_status.started(scope)


def test_mutated_messages_harm_nobody() -> None:
    """Bytes of sound requests are changed at random on a connection of their own; another client is served on."""

    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        chance = random.Random(20)
        cer = evolve(node.commands, origin_host="xx").cer(HOST).encode()
        samples = [
            UserDataRequest(**head(node), data_references=[0], service_indications=[b"ai"]).to_message().encode(),
            ProfileUpdateRequest(**head(node), data_references=[0], user_data=b"<Sh-Data/>").to_message().encode(),
            node.commands.dwr().encode(),
            cer,
        ]
        for turn in range(150):
            frame = bytearray(chance.choice(samples))
            for _ in range(chance.randint(1, 6)):
                frame[chance.randrange(4 if turn % 3 else 0, len(frame))] = chance.randrange(256)
            async with await trio.open_tcp_stream(*hss.address) as stream:
                await stream.send_all(cer)
                assert await stream.receive_some() != b""
                await stream.send_all(bytes(frame))
                with trio.move_on_after(0.005), contextlib.suppress(trio.BrokenResourceError):
                    await stream.receive_some()
            await until(lambda: len(hss.node.peer_states()) == 1)
        assert len(hss.node.counters) > 3
        assert (await pull(node, data_references=[11])).result.is_success
        await until(lambda: len(hss.node.peer_states()) == 1)

    run_hss(scenario)


def test_knobs() -> None:
    async def scenario(hss: LabHss, node: DiameterNode) -> None:
        hss.silent = True
        with trio.move_on_after(0.05) as patience:
            await pull(node, data_references=[11])
        assert patience.cancelled_caught
        hss.silent = False
        hss.delay_s = 0.05
        started = trio.current_time()
        await pull(node, data_references=[11])
        assert trio.current_time() - started >= 0.05
        assert [(record.peer, record.command) for record in hss.requests] == [("as", "UDR"), ("as", "UDR")]
        assert hss.ifcs_of(BOB) == IFCS
        assert hss.ifcs_of("sip:eve@example.net") is None

    run_hss(scenario)
