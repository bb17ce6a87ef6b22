"""What keeps profiles right without asking: notifications, subscriptions and their renewal, restarts; and who shares
a profile: alias groups, wildcards, users with several identities."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from conformance.lab.hss_sh import Notification
from conformance.lab.subscribers import Subscriber
from diameter.dictionary.sh import SH, DataReference
from diameter.errors import NoPeerError
from diameter.message import Message, Result
from diameter.sh.cache import SETTLING_S
from diameter.sh.client import ShClient
from diameter.sh.errors import ShUserUnknownError
from diameter.sh.messages import SupportedFeatures, UserIdentity
from diameter.sh.userdata import RepositoryData, ShData
from tests.diameter.sh.fake_hss import BOB, DocumentHss, build_client, build_lab, build_push, run_clocked

TEL = "tel:+15550100"
SUCCESS = Result(2001)
UNKNOWN = Result(5001, 10415)
NO_SUBSCRIPTION = Result(5107, 10415)


def build_bob(**changes: Any) -> Subscriber:
    values: dict[str, Any] = {
        "impi": "bob@example.net",
        "impus": (BOB, TEL),
        "repository": {b"ai": b"<a>1</a>"},
        "scscf_name": "sip:scscf",
        "state": 1,
    }
    return Subscriber(**values | changes)


def item(sequence: int, service_data: bytes | None) -> ShData:
    return ShData(repository=(RepositoryData(b"ai", sequence, service_data),))


def deliver(client: ShClient, pushed: list[Notification]) -> list[Result | None]:
    """Hands over what the lab's HSS wants to tell."""
    results = []
    while pushed:
        notification = pushed.pop(0)
        results.append(client.receive_push(build_push(notification.subscription.impu, notification.user_data)).result())
    return results


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


def test_a_thousand_calls_for_one_user_cost_one_pull() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob(), subscribe=False, budget_s=5.0)
        node.delay_s = 0.1
        found: list[Any] = []

        async def call(start_s: float) -> None:
            await trio.sleep(start_s)
            found.append(await client.fetch(BOB))

        async with trio.open_nursery() as calls:
            for number in range(1000):
                calls.start_soon(call, number / 5000)  # half of them while the pull is under way, half after it
        assert len(found) == 1000
        assert all(each is found[0] for each in found)
        assert node.commands == ["UDR"]
        assert (client.stats.pulls, client.stats.shared + client.stats.hits) == (1, 999)
        assert client.stats.shared > 400
        assert client.stats.hits > 400

    run_clocked(scenario)


def test_a_hit_costs_no_request_and_no_checkpoint() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob(), subscribe=False)
        await client.fetch(BOB)
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(100):
                await client.fetch(BOB)  # would be cancelled if it waited for anything
        assert not scope.cancelled_caught
        assert len(node.requests) == 1

    run_clocked(scenario)


def test_subscription_is_renewed_before_it_ends_while_the_profile_is_used() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(item(0, b"<a/>"))
        hss.expires_in_s = 1000
        client, node = build_client(hss.answer, cache_s=1e6)
        await nursery.start(client.run)
        await client.fetch(BOB)
        await settle()
        assert node.commands == ["UDR", "SNR"]
        await trio.sleep(10)
        for _ in range(3):
            await trio.sleep(400)
            assert await client.fetch(BOB)
            await trio.sleep(400)
        assert node.commands == ["UDR", "SNR", "SNR", "SNR", "SNR"]
        assert client.stats.renewals == 3
        await trio.sleep(5000)  # nobody wants it any more
        assert node.commands == ["UDR", "SNR", "SNR", "SNR", "SNR"]
        await client.fetch(BOB)
        assert node.commands[5] == "UDR"

    run_clocked(scenario)


def test_subscription_of_a_caller_is_renewed_until_it_is_given_up() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(ShData(user_state=1))
        hss.expires_in_s = 100
        client, node = build_client(hss.answer)
        await nursery.start(client.run)
        subscription = await client.subscribe(BOB, [DataReference.IMS_USER_STATE], lifetime_s=500)
        assert hss.requests[0].expiry_time == int(trio.current_time() + 500)
        await trio.sleep(200)
        assert node.commands == ["SNR"] * 3
        node.answer = lambda message: None
        await trio.sleep(200)
        n_tries = len(node.requests)
        assert n_tries > 3
        node.answer = hss.answer
        await trio.sleep(400)
        assert subscription.until > trio.current_time()
        await client.unsubscribe(subscription)
        n_tries = len(node.requests)
        await trio.sleep(10_000)
        assert len(node.requests) == n_tries

    run_clocked(scenario)


def test_subscription_of_a_caller_is_made_again_when_peers_are_back() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(ShData(user_state=1))
        client, node = build_client(hss.answer)
        await nursery.start(client.run)
        subscription = await client.subscribe(BOB, [DataReference.IMS_USER_STATE])

        def nobody(message: Message) -> Message | None:
            raise NoPeerError("no open peer")

        node.answer = nobody
        assert node.on_isolated is not None
        node.on_isolated()
        await trio.sleep(60)
        node.answer = hss.answer
        hss.data = ShData(user_state=0)  # changed while nobody could tell us
        await trio.sleep(10)
        assert subscription.data == ShData(user_state=0)
        n_requests = len(node.requests)
        await trio.sleep(50_000)
        assert len(node.requests) == n_requests

    run_clocked(scenario)


def test_one_notification_ends_a_one_time_subscription() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(ShData())
        client, _node = build_client(hss.answer)
        await client.subscribe(BOB, [DataReference.UE_REACHABILITY_FOR_IP], is_one_time=True)
        assert hss.requests[0].one_time_notification == 0
        told = ShData(ue_reachability=("UEIPReachabilityMME",))
        assert client.receive_push(build_push(BOB, told)).result() == SUCCESS
        assert client.receive_push(build_push(BOB, told)).result() == UNKNOWN

    run_clocked(scenario)


def test_subscription_by_msisdn() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(ShData())
        client, _node = build_client(hss.answer)
        msisdn = UserIdentity(msisdn="15550100")
        subscription = await client.subscribe(msisdn, [DataReference.CHARGING_INFORMATION])
        told = ShData(charging=(("PrimaryEventChargingFunctionName", "aaa://ocs"),))
        assert client.receive_push(build_push(msisdn, told)).result() == SUCCESS
        assert subscription.data == told

    run_clocked(scenario)


@pytest.mark.parametrize("is_behind_agent", [False, True])
def test_restarted_hss_leaves_no_stale_profile_and_no_lost_subscription(is_behind_agent: bool) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, hss, _ = build_lab(build_bob(), build_bob(impi="eve", impus=("sip:eve@x",)))
        node.state_id = 5
        await nursery.start(client.run)
        await client.fetch(BOB)
        await client.subscribe(BOB, [DataReference.S_CSCF_NAME])
        await settle()
        assert {each.data_reference for each in hss.subscriptions} == {0, 11, 12, 13}
        hss.subscriptions.clear()
        if is_behind_agent:
            node.state_id = 6
            await client.fetch("sip:eve@x")
        else:
            assert node.on_restart is not None
            node.on_restart("hss")
        await settle()
        assert 12 in {each.data_reference for each in hss.subscriptions if each.impu == BOB}
        assert client.cached(BOB) is None
        n_requests = len(node.requests)
        await client.fetch(BOB)
        await settle()
        assert node.commands[n_requests:] == ["UDR", "SNR"]
        assert client.cached(BOB) is not None

    run_clocked(scenario)


def test_gap_in_the_numbers_is_taken_and_asked_about() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, hss, pushed = build_lab(build_bob())
        bob = hss._find(BOB)
        assert bob is not None
        await nursery.start(client.run)
        await client.fetch(BOB)
        await settle()
        bob.repository[b"ai"], bob.sequences[b"ai"] = b"<a>9</a>", 9
        hss.changed(bob, DataReference.REPOSITORY_DATA, si=b"ai")
        assert deliver(client, pushed) == [SUCCESS]
        assert client.cached(BOB) is None  # until the HSS has said what it has
        assert client.cached(BOB, stale_ok=True).service_data == b"<a>9</a>"  # type: ignore[union-attr]
        await settle()
        assert client.cached(BOB).sequence == 9  # type: ignore[union-attr]
        assert node.commands == ["UDR", "SNR", "UDR"]
        assert client.stats.pushes_doubtful == 1

    run_clocked(scenario)


def test_late_and_repeated_notifications_change_nothing() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob(repository={b"ai": b"<a>7</a>"}, sequences={b"ai": 7}))
        await client.fetch(BOB)
        for _ in range(2):
            assert client.receive_push(build_push(BOB, item(8, b"<a>8</a>"))).result() == SUCCESS
        assert client.cached(BOB).sequence == 8  # type: ignore[union-attr]
        assert client.receive_push(build_push(BOB, item(7, b"<a>7</a>"))).result() == SUCCESS
        assert client.cached(BOB, stale_ok=True).service_data == b"<a>8</a>"  # type: ignore[union-attr]
        assert node.commands == ["UDR"]

    run_clocked(scenario)


def test_numbers_around_65535() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, _, hss, pushed = build_lab(build_bob(sequences={b"ai": 65534}))
        await nursery.start(client.run)
        await client.fetch(BOB)
        await settle()
        for number in (65535, 1, 2):
            assert await client.update_repository(BOB, b"<a>%d</a>" % number) == number
        assert deliver(client, pushed) == []  # who has done it is not told
        bob = hss._find(BOB)
        assert bob is not None
        bob.repository[b"ai"], bob.sequences[b"ai"] = b"<a>3</a>", 3
        hss.changed(bob, DataReference.REPOSITORY_DATA, si=b"ai")
        assert deliver(client, pushed) == [SUCCESS]
        assert client.cached(BOB).sequence == 3  # type: ignore[union-attr]
        assert client.stats.pushes_doubtful == 0

    run_clocked(scenario)


def test_after_a_deletion_numbers_are_not_trusted_for_a_while() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob())
        await client.fetch(BOB)
        assert client.receive_push(build_push(BOB, item(1, None))).result() == SUCCESS
        assert client.cached(BOB).service_data is None  # type: ignore[union-attr]
        assert client.receive_push(build_push(BOB, item(0, b"<a>old or new</a>"))).result() == SUCCESS
        assert client.cached(BOB) is None
        await client.fetch(BOB)
        await trio.sleep(SETTLING_S)
        assert client.receive_push(build_push(BOB, item(1, b"<a>2</a>"))).result() == SUCCESS
        assert client.cached(BOB).service_data == b"<a>2</a>"  # type: ignore[union-attr]
        assert node.commands == ["UDR", "UDR"]

    run_clocked(scenario)


def test_older_notification_during_a_pull_does_not_undo_its_answer() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob(sequences={b"ai": 4}))
        node.delay_s = 0.1
        found: list[Any] = []

        async def call() -> None:
            found.append(await client.fetch(BOB))

        async with trio.open_nursery() as calls:
            calls.start_soon(call)
            await settle()
            for sequence, text in ((3, b"<a>3</a>"), (4, b"<a>1</a>")):
                assert client.receive_push(build_push(BOB, item(sequence, text))).result() == SUCCESS
        assert (found[0].sequence, found[0].service_data) == (4, b"<a>1</a>")

    run_clocked(scenario)


def test_update_during_a_pull_is_newer_than_its_answer() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob(), poll_s=10.0, subscribe=False)
        await client.fetch(BOB)
        await trio.sleep(20)
        held: list[Message] = []
        answer = node.answer

        def pull_early(message: Message) -> Message | None:
            """The answer to the pull is made before the update, and comes after it."""
            return held.pop() if message.code == 306 and held else answer(message)

        async with trio.open_nursery() as calls:
            node.answer, node.delay_s = pull_early, 0.1
            calls.start_soon(client.fetch, BOB)
            await settle()
            early = answer(node.requests[-1])
            assert early is not None
            held.append(early)
            node.delay_s = 0.0
            assert await client.update_repository(BOB, b"<a>2</a>") == 1
        assert client.cached(BOB).service_data == b"<a>2</a>"  # type: ignore[union-attr]

    run_clocked(scenario)


def test_notification_that_says_nothing_makes_us_ask() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, node, _, _ = build_lab(build_bob())
        await nursery.start(client.run)
        await client.fetch(BOB)
        await settle()
        assert client.receive_push(build_push(BOB, ShData())).result() == SUCCESS
        assert client.cached(BOB) is None
        await settle()
        assert client.cached(BOB) is not None
        assert node.commands == ["UDR", "SNR", "UDR"]

    run_clocked(scenario)


@pytest.mark.parametrize(
    ("features", "result"),
    [
        ((SupportedFeatures(1),), SUCCESS),
        ((SupportedFeatures(1, is_required=True),), SUCCESS),
        ((SupportedFeatures(9),), SUCCESS),
        ((SupportedFeatures(8, is_required=True),), Result(5011, 10415)),
        ((SupportedFeatures(1, 2, is_required=True),), Result(5011, 10415)),
    ],
)
def test_features_that_the_hss_demands(features: tuple[SupportedFeatures, ...], result: Result) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client, _, _, _ = build_lab(build_bob())
        await client.fetch(BOB)
        answer = client.receive_push(build_push(BOB, ShData(user_state=0), supported_features=features))
        assert answer.result() == result
        told = answer.avps.find(SH["Supported-Features"].key)
        assert (told is not None) == (not result.is_success)
        assert client.cached(BOB).user_state == (0 if result.is_success else 1)  # type: ignore[union-attr]

    run_clocked(scenario)


# ---------------------------------------------------------------- who shares a profile


def test_alias_group_shares_one_profile() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        bob = build_bob()
        client, node, _, _ = build_lab(bob, ask_aliases=True, subscribe=False)
        profile = await client.fetch(BOB)
        assert profile.alias_group == (TEL,)
        assert await client.fetch(TEL) is profile
        assert node.commands == ["UDR"]
        identity_sets = [each.data[-1] for each in node.requests[0].avps.find_all(SH["Identity-Set"].key)]
        assert identity_sets == [3]
        # told of the alias, changed for both
        bob.repository[b"ai"], bob.sequences[b"ai"] = b"<a>2</a>", 1
        assert client.receive_push(build_push(TEL, item(1, b"<a>2</a>"))).result() == SUCCESS
        assert client.cached(BOB).service_data == b"<a>2</a>"  # type: ignore[union-attr]
        assert await client.update_repository(TEL, b"<a>3</a>") == 2
        gone = ShData(deleted_identities=(TEL,))
        assert client.receive_push(build_push(BOB, gone)).result() == SUCCESS
        assert client.cached(TEL) is None
        assert client.cached(BOB) is not None

    run_clocked(scenario)


def test_identities_that_are_no_aliases_do_not_share() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(ShData(user_state=1, public_identities=(BOB, TEL), implicit_identities=(BOB, TEL)))
        hss.sends_all = True
        client, node = build_client(hss.answer, subscribe=False)
        await client.fetch(BOB)
        await client.fetch(TEL)
        assert node.commands == ["UDR", "UDR"]

    run_clocked(scenario)


def test_wildcard_has_one_profile_for_all_that_fall_under_it() -> None:
    wildcard = "sip:room-!.*!@example.net"

    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(item(0, b"<a/>"))
        client, node = build_client(hss.answer)
        await nursery.start(client.run)
        for number in range(100):
            profile = await client.fetch(f"sip:room-{number}@example.net", wildcard=wildcard)
        await settle()
        assert profile.impu == "sip:room-0@example.net"
        assert node.commands == ["UDR", "SNR"]
        for request in hss.requests:
            assert request.user_identity == UserIdentity("sip:room-0@example.net")
            assert request.wildcarded_public_identity == wildcard
        for identity, changes in (
            ("sip:room-0@example.net", {}),
            ("sip:room-77@example.net", {"wildcarded_public_identity": wildcard}),
            ("sip:room-77@example.net", {"wildcarded_impu": wildcard}),
        ):
            assert client.receive_push(build_push(identity, ShData(user_state=2), **changes)).result() == SUCCESS
        assert client.cached("x", wildcard=wildcard).user_state == 2  # type: ignore[union-attr]
        assert client.receive_push(build_push("sip:room-77@example.net", ShData(user_state=2))).result() == UNKNOWN

    run_clocked(scenario)


def test_wildcard_that_the_hss_tells_is_kept() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(item(0, b"<a/>"))
        hss.wildcard = "sip:pbx-!.*!@example.net"
        client, _node = build_client(hss.answer)
        await nursery.start(client.run)
        profile = await client.fetch("sip:pbx-1@example.net")
        await settle()
        assert profile.wildcard == hss.wildcard
        assert [each.wildcarded_public_identity for each in hss.requests] == [None, hss.wildcard]

    run_clocked(scenario)


def test_another_identity_where_the_first_is_unknown() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(item(0, b"<a/>"))
        hss.known = {BOB, "sip:1@example.net"}
        client, node = build_client(hss.answer)
        await nursery.start(client.run)
        assert (await client.fetch(TEL, others=[BOB])).impu == BOB
        await settle()
        assert [each.user_identity.public_identity for each in hss.requests] == [BOB, BOB]  # sip: first
        assert client.receive_push(build_push(BOB, ShData(user_state=2))).result() == SUCCESS
        assert client.cached(TEL).user_state == 2  # type: ignore[union-attr]
        profile = await client.fetch("sip:other@example.net", others=["sip:1@example.net"])
        assert profile.impu == "sip:1@example.net"
        n_requests = len(node.requests)
        with pytest.raises(ShUserUnknownError):
            await client.fetch("sip:eve@example.net", others=["tel:+1"])
        assert len(node.requests) - n_requests == 2 + node.commands[n_requests:].count("SNR")
        n_requests = len(node.requests)
        with pytest.raises(ShUserUnknownError):
            await client.fetch("sip:eve@example.net", others=["tel:+1"])
        assert len(node.requests) == n_requests

    run_clocked(scenario)


def test_evicted_user_is_unknown_and_the_hss_hears_it() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = DocumentHss(ShData(user_state=1, alias_identities=(BOB, TEL)))
        hss.sends_all = True
        client, _node = build_client(hss.answer, subscribe=False, max_users=1, ask_aliases=True)
        await client.fetch(BOB)
        assert client.cached(TEL) is not None
        await client.fetch("sip:eve@example.net")
        for gone in (BOB, TEL):
            assert client.cached(gone) is None
            assert client.receive_push(build_push(gone, ShData(user_state=2))).result() == UNKNOWN

    run_clocked(scenario)
