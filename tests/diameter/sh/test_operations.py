"""Every operation on every Data-Reference, past the cache: what goes out, what comes back, what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from diameter.dictionary.sh import CurrentLocation, DataReference, RequestedDomain
from diameter.errors import LocalDiameterError
from diameter.message import Result
from diameter.sh.client import ShKeys
from diameter.sh.data_reference import REFERENCE_RULES, Operation
from diameter.sh.errors import (
    ShAnswerError,
    ShFeatureError,
    ShOutOfSyncError,
    ShPermissionError,
    ShTimeoutError,
)
from diameter.sh.messages import UserDataAnswer, UserIdentity
from diameter.sh.userdata import (
    Location,
    ReferenceLocation,
    RepositoryData,
    ShData,
    SmsRegistration,
    TadsInformation,
    parse_sh_data_untrusted,
)
from tests.diameter.sh.fake_hss import BOB, DocumentHss, build_client, build_push, run_clocked

R = DataReference
FULL = ShData(
    public_identities=(BOB,),
    alias_identities=(BOB, "tel:+15550100"),
    msisdns=("15550100",),
    repository=(RepositoryData(b"ai", 3, b"<a/>"), RepositoryData(b"other", 9, b"<o/>")),
    scscf_name="sip:scscf",
    ifcs=b"<IFCs/>",
    user_state=1,
    charging=(("PrimaryChargingCollectionFunctionName", "aaa://cdf"),),
    psi_activation=1,
    dsai=(("t", 0), ("u", 1)),
    trace_info="trace",
    ipv4_address="192.0.2.7",
    service_priority=2,
    ue_reachability=("UEIPReachabilityMME",),
    sms_registration=SmsRegistration("491700"),
    stn_sr="491701",
    ue_srvcc=1,
    extended_priorities=(("ets", "1"),),
    csrn="491702",
    reference_locations=(ReferenceLocation("x"),),
    ue_5g_srvcc=0,
    cs_user_state=2,
    locations=(Location("PSLocationInformation", b"<PSLocationInformation/>"),),
    tads=TadsInformation(1),
    imsi="001010000000001",
    imeisv="1234567890123456",
    private_identities=("bob@example.net",),
)
KEYS = {
    R.REPOSITORY_DATA: ShKeys(service_indications=["ai", "other"]),
    R.INITIAL_FILTER_CRITERIA: ShKeys(server_name="sip:as"),
    R.LOCATION_INFORMATION: ShKeys(
        requested_domain=RequestedDomain.PS,
        current_location=CurrentLocation.DO_NOT_NEED_INITIATE_ACTIVE_LOCATION_RETRIEVAL,
    ),
    R.USER_STATE: ShKeys(requested_domain=RequestedDomain.CS),
    R.DSAI: ShKeys(server_name="sip:as", dsai_tags=["t", "u"]),
}


def may(operation: Operation) -> list[DataReference]:
    return [rule.reference for rule in REFERENCE_RULES.values() if operation in rule.operations]


def name(reference: Any) -> str:
    return str(REFERENCE_RULES[reference].name)


@pytest.mark.parametrize("reference", may(Operation.PULL), ids=name)
@pytest.mark.parametrize("sends_all", [False, True])
def test_pull(reference: DataReference, sends_all: bool) -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        hss.sends_all = sends_all
        client, _node = build_client(hss.answer)
        data = await client.pull(BOB, [reference], KEYS.get(reference, ShKeys()))
        assert data.has(reference)
        assert data == FULL.select([reference])
        assert hss.requests[0].data_references == (reference,)

    run_clocked(scenario)


@pytest.mark.parametrize("reference", may(Operation.UPDATE), ids=name)
def test_update(reference: DataReference) -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(ShData())
        client, _node = build_client(hss.answer)
        keys = ShKeys(private_identity="bob@example.net") if reference in (24, 27) else ShKeys()
        await client.update(BOB, [reference], FULL, keys)
        assert hss.data == FULL.select([reference])
        assert parse_sh_data_untrusted(hss.requests[0].user_data) == FULL.select([reference])
        assert hss.requests[0].user_name == keys.private_identity
        assert hss.requests[0].supported_features == ()

    run_clocked(scenario)


@pytest.mark.parametrize("reference", may(Operation.SUBSCRIBE), ids=name)
def test_subscribe_hear_unsubscribe(reference: DataReference) -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        client, node = build_client(hss.answer)
        heard: list[ShData] = []
        client.on_notification = lambda identity, data: heard.append(data)
        keys = KEYS.get(reference, ShKeys())
        subscription = await client.subscribe(BOB, [reference], keys)
        assert subscription.data == FULL.select([reference])
        subscription.data = None
        answer = client.receive_push(build_push(BOB, FULL))
        assert answer.result() == Result(2001)
        assert subscription.data == FULL.select([reference])
        assert heard == [FULL]
        other = next(
            each for each in may(Operation.PULL) if not {*FULL.select([each]).identities} and each != reference
        )
        told = FULL.select([other])
        assert client.receive_push(build_push(BOB, told)).result() == Result(5107, 10415)
        await client.unsubscribe(subscription)
        assert client.receive_push(build_push(BOB, FULL)).result() == Result(5001, 10415)
        assert node.commands == ["SNR", "SNR"]
        assert [each.subs_req_type for each in hss.requests] == [0, 1]

    run_clocked(scenario)


def test_what_the_table_forbids_is_not_sent() -> None:
    async def scenario(_: Any) -> None:
        client, node = build_client(DocumentHss(FULL).answer)
        with pytest.raises(LocalDiameterError):
            await client.pull(BOB, [R.UE_REACHABILITY_FOR_IP])
        with pytest.raises(LocalDiameterError):
            await client.pull(BOB, [20])  # type: ignore[list-item]
        with pytest.raises(LocalDiameterError):
            await client.update(BOB, [R.IMS_USER_STATE], FULL)
        with pytest.raises(LocalDiameterError, match="nothing to write of STN-SR"):
            await client.update(BOB, [R.STN_SR], ShData())
        with pytest.raises(LocalDiameterError):
            await client.subscribe(BOB, [R.MSISDN])
        with pytest.raises(LocalDiameterError):
            await client.pull(UserIdentity(msisdn="15550100"), [R.IMS_USER_STATE])
        assert node.requests == []

    run_clocked(scenario)


def test_several_references_in_one_pull() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        client, node = build_client(hss.answer)
        references = [R.IMS_USER_STATE, R.S_CSCF_NAME, R.CHARGING_INFORMATION]
        assert await client.pull(BOB, references) == FULL.select(references)
        assert node.commands == ["UDR"]
        assert hss.requests[0].supported_features[0].feature_list & 1

    run_clocked(scenario)


def test_hss_that_looks_at_the_first_reference_only() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        hss.first_only = True
        client, node = build_client(hss.answer, subscribe=False)
        profile = await client.fetch(BOB)
        assert (profile.service_data, profile.user_state, profile.scscf_name) == (b"<a/>", 1, "sip:scscf")
        assert profile.ifcs == b"<IFCs/>"
        assert len(node.requests) == 4  # one for two, and the others
        await client.fetch("sip:eve@example.net")
        assert len(node.requests) == 8  # one each from now on

    run_clocked(scenario)


def test_poor_hss_is_asked_only_once_whether_it_has_more() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL.select([R.S_CSCF_NAME]))
        hss.features = 0
        client, node = build_client(hss.answer, subscribe=False)
        await client.fetch(BOB)
        assert len(node.requests) == 4
        await client.fetch("sip:eve@example.net")
        assert len(node.requests) == 5

    run_clocked(scenario)


def test_what_we_may_not_read_is_left_out_from_then_on() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        client, node = build_client(hss.answer, subscribe=False)
        full = hss.answer

        def without_criteria(message: Any) -> Any:
            hss.results = {}
            references = [each.data[-1] for each in message.avps if each.code == 703]
            if 13 in references:
                hss.results = {"UDR": Result(5102, 10415)}
            return full(message)

        node.answer = without_criteria
        profile = await client.fetch(BOB)
        assert (profile.ifcs, profile.user_state) == (None, 1)
        assert client.stats.not_permitted == 2
        assert len(node.requests) == 5
        await client.fetch("sip:eve@example.net")
        assert len(node.requests) == 6
        assert 13 not in hss.requests[-1].data_references
        assert client.stats.not_permitted == 2

    run_clocked(scenario)


@pytest.mark.parametrize(("command", "code"), [("UDR", 5102), ("PUR", 5103), ("SNR", 5104)])
def test_permissions_are_named_and_counted(command: str, code: int) -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        hss.results = {command: Result(code, 10415)}
        client, _node = build_client(hss.answer)
        ask: dict[str, Callable[[], Awaitable[object]]] = {
            "UDR": lambda: client.pull(BOB, [R.PSI_ACTIVATION]),
            "PUR": lambda: client.update(BOB, [R.PSI_ACTIVATION], FULL),
            "SNR": lambda: client.subscribe(BOB, [R.PSI_ACTIVATION]),
        }
        with pytest.raises(ShPermissionError, match=f"{command} of PSIActivation") as caught:
            await ask[command]()
        assert (caught.value.operation, caught.value.references) == (command, ("PSIActivation",))
        assert client.stats.not_permitted == 1

    run_clocked(scenario)


def test_several_updates_at_once_are_a_condition() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(ShData())
        client, node = build_client(hss.answer)
        await client.update(BOB, [R.PSI_ACTIVATION, R.STN_SR], FULL)
        features = [each for each in node.requests[0].avps if each.code == 628]
        assert [each.is_mandatory for each in features] == [True]
        hss.results = {"PUR": Result(5011, 10415)}
        with pytest.raises(ShFeatureError):
            await client.update(BOB, [R.PSI_ACTIVATION, R.STN_SR], FULL)

    run_clocked(scenario)


def test_strict_names_what_deviates() -> None:
    bad = b"<Sh-Data><Sh-IMS-Data><S-CSCFName>sip:s</S-CSCFName></Sh-IMS-Data></Sh-Data>"

    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        for strict in (False, True):
            client, node = build_client(hss.answer, strict=strict)
            assert (await client.pull(BOB, [R.S_CSCF_NAME])).scscf_name == "sip:scscf"
            assert (await client.fetch(BOB)).scscf_name == "sip:scscf"

            def deviate(message: Any) -> Any:
                return UserDataAnswer(origin_host="hss", origin_realm="r", user_data=bad).to_answer(message)

            node.answer = deviate
            push = client.receive_push(build_push(BOB, bad)).result()
            if strict:
                with pytest.raises(ShAnswerError, match=r"deviates from the schema: line 1: .*S-CSCFName"):
                    await client.pull(BOB, [R.S_CSCF_NAME])
                assert push == Result(5100, 10415)
            else:
                assert (await client.pull(BOB, [R.S_CSCF_NAME])).scscf_name == "sip:s"
                assert push == Result(2001)

    run_clocked(scenario)


def test_conditional_update() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        client, _node = build_client(hss.answer)
        assert await client.update_repository(BOB, b"<b/>", if_sequence=3) == 4
        hss.results = {"PUR": Result(5105, 10415)}
        with pytest.raises(ShOutOfSyncError):
            await client.update_repository(BOB, b"<b/>", if_sequence=3)
        assert client.stats.out_of_sync == 1

    run_clocked(scenario)


def test_update_waits_for_another_one() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        client, node = build_client(hss.answer)
        hss.results = {"PUR": Result(4101, 10415)}
        full = hss.answer

        def free_after_two(message: Any) -> Any:
            if node.commands.count("PUR") > 2:
                hss.results = {}
            return full(message)

        node.answer = free_after_two
        assert await client.change_repository(BOB, lambda present: (present or b"")[:0] + b"<c/>") == 4
        assert node.commands == ["UDR", "PUR", "PUR", "PUR"]

    run_clocked(scenario)


def test_a_change_that_changes_nothing_is_not_sent() -> None:
    async def scenario(_: Any) -> None:
        client, node = build_client(DocumentHss(FULL).answer)
        assert await client.change_repository(BOB, lambda present: present) == 3
        assert node.commands == ["UDR"]

    run_clocked(scenario)


def test_an_unanswered_update_leaves_a_doubt() -> None:
    async def scenario(_: Any) -> None:
        hss = DocumentHss(FULL)
        client, node = build_client(hss.answer, subscribe=False)
        await client.fetch(BOB)
        node.answer = lambda message: None
        with pytest.raises(ShTimeoutError):
            await client.update_repository(BOB, b"<b/>")
        assert client.cached(BOB) is None
        assert client.cached(BOB, stale_ok=True) is not None

    run_clocked(scenario)
