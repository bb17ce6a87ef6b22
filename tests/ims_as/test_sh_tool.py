from __future__ import annotations

from typing import Any

import pytest
import trio

from conformance.lab.hss import LabHss
from diameter.dictionary.sh import DataReference
from diameter.message import Result
from diameter.sh.client import ShProfile
from diameter.sh.userdata import ShData
from ims_as.config import Config
from ims_as.sh_tool import (
    EXIT_NO_PEER,
    EXIT_REFUSED,
    ServiceDataError,
    ShToolError,
    Subscription,
    Update,
    change_service_data,
    check_service_data,
    describe_result,
    get_profile,
    origin_host_of,
    put_service_data,
    run,
    watch_profile,
)
from tests.ims_as.sh_network import BOB, IFCS, OTHER, SCSCF, SETTINGS, build_config, with_hss

WAIT_S = 2.0


async def refusal_of(action: Any, *arguments: Any, wait_s: float = WAIT_S) -> ShToolError:
    with pytest.raises(ShToolError) as caught:
        await action(*arguments, wait_s=wait_s)
    return caught.value


def test_get_reads_everything_and_takes_leave():
    async def scenario(hss: LabHss, config: Config) -> None:
        profile = await get_profile(config, BOB, wait_s=WAIT_S)
        assert (profile.service_data, profile.sequence) == (SETTINGS, 0)
        assert (profile.scscf_name, profile.user_state) == (SCSCF, 1)
        assert profile.ifcs is not None
        assert [record.command for record in hss.requests] == ["UDR"]
        assert hss.requests[0].peer == "as.example.net"
        while any(peer["is_open"] for peer in hss.node.peer_states()):
            await trio.sleep(0.01)

    with_hss(scenario)


def test_the_origin_host_can_be_its_own():
    async def scenario(hss: LabHss, config: Config) -> None:
        await get_profile(config, BOB, origin_host="tool", wait_s=WAIT_S)
        await get_profile(config, BOB, origin_host="probe.example.org", wait_s=WAIT_S)
        assert [record.peer for record in hss.requests] == ["tool.as.example.net", "probe.example.org"]
        assert origin_host_of(config, None) == "as.example.net"

    with_hss(scenario)


def test_put_counts_the_sequence_number_on():
    async def scenario(hss: LabHss, config: Config) -> None:
        bob = hss.find(BOB)
        assert bob is not None
        bob.sequences[b"agent"] = 65535
        assert await put_service_data(config, BOB, b"<a>1</a>", wait_s=WAIT_S) == Update(65535, 1)
        assert bob.repository[b"agent"] == b"<a>1</a>"
        assert await put_service_data(config, OTHER, None, wait_s=WAIT_S) == Update(1, None)
        assert bob.repository == {}
        assert await put_service_data(config, BOB, b"<b/>", wait_s=WAIT_S) == Update(None, 0)

    with_hss(scenario)


def test_a_change_keeps_what_somebody_else_wrote_meanwhile():
    async def scenario(hss: LabHss, config: Config) -> None:
        seen: list[bytes | None] = []

        def change(present: bytes | None) -> bytes:
            if not seen:  # somebody else writes after we have read
                hss.set_repository(BOB, b"agent", b"<a>theirs</a>")
            seen.append(present)
            return (present or b"").replace(b"</", b" and ours</")

        update = await change_service_data(config, BOB, change, wait_s=WAIT_S)
        bob = hss.find(BOB)
        assert bob is not None
        assert bob.repository[b"agent"] == b"<a>theirs and ours</a>"
        assert (update.after, update.data_before) == (2, b"<a>theirs</a>")
        assert {SETTINGS, b"<a>theirs</a>"} == set(seen)

    with_hss(scenario)


def test_a_change_that_changes_nothing_is_not_written():
    async def scenario(hss: LabHss, config: Config) -> None:
        assert await change_service_data(config, BOB, lambda present: present, wait_s=WAIT_S) == Update(0, 0)
        assert {record.command for record in hss.requests} == {"UDR"}
        with pytest.raises(ServiceDataError):
            await change_service_data(config, BOB, lambda _: b"no xml", wait_s=WAIT_S)
        assert {record.command for record in hss.requests} == {"UDR"}

    with_hss(scenario)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (b"", "not well-formed"),
        (b"<a>", "line 1"),
        (b"<a/>\n<b/>", "line 2"),
        (b"plain text", "not well-formed"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        (b"<a>" + b" " * 300_000 + b"</a>", "at most"),
    ],
)
def test_put_refuses_what_is_not_xml_before_anything_is_sent(xml: bytes, reason: str):
    with pytest.raises(ServiceDataError, match=reason):
        # nobody listens there: it must not come to a connection
        run(put_service_data, build_config(9), BOB, xml)


def test_well_formed_service_data_passes():
    check_service_data(b"<?xml version='1.0'?><!-- c --><a xmlns='urn:x'>&amp;</a>")


def test_no_peer_and_no_answer_are_told_apart_from_refusals():
    async def scenario(hss: LabHss, config: Config) -> None:
        unknown = await refusal_of(get_profile, config, "sip:nobody@example.net")
        assert unknown.status == EXIT_REFUSED
        assert "5001 USER_UNKNOWN: the HSS does not know this identity" in str(unknown)
        hss.silent = True
        silent = await refusal_of(get_profile, config, BOB, wait_s=0.3)
        assert silent.status == EXIT_NO_PEER
        assert "did not answer" in str(silent)
        nobody = await refusal_of(get_profile, build_config(9), BOB, wait_s=0.3)
        assert nobody.status == EXIT_NO_PEER
        assert "127.0.91.1:9" in str(nobody)
        assert "peers is empty" in str(await refusal_of(get_profile, build_config(), BOB))

    with_hss(scenario)


def test_missing_permission_is_told_in_words():
    async def scenario(hss: LabHss, config: Config) -> None:
        hss.sh.denied = set(DataReference)
        for action, arguments, text in (
            (get_profile, (), "5102 USER_DATA_CANNOT_BE_READ: this Origin-Host may not read it"),
            (put_service_data, (b"<a/>",), "5102 USER_DATA_CANNOT_BE_READ"),
        ):
            refused = await refusal_of(action, config, BOB, *arguments)
            assert refused.status == EXIT_REFUSED
            assert text in str(refused)
        hss.sh.denied = set()
        hss.sh.max_repository_bytes = 10
        too_much = await refusal_of(put_service_data, config, BOB, b"<a>0123456789</a>")
        assert "5008 TOO_MUCH_DATA" in str(too_much)

    with_hss(scenario)


def test_results_in_words():
    assert describe_result(Result(5012)) == "5012 UNABLE_TO_COMPLY: the HSS has a problem of its own"
    assert describe_result(Result(3004)) == "3004 TOO_BUSY: the HSS is overloaded"
    assert describe_result(Result(5001)) == "5001 AVP_UNSUPPORTED: the HSS does not know something that we sent"
    assert describe_result(Result(5999)) == "5999"
    assert describe_result(Result(5001, 4711)) == "5001 of vendor 4711"


class Watcher:
    """A watch and what it saw."""

    def __init__(self) -> None:
        self.profile: ShProfile | None = None
        self.subscription: Subscription | None = None
        self.started, self.stop, self.pushed = trio.Event(), trio.Event(), trio.Event()
        self.pushes: list[ShData] = []
        self.n_pushed: int | None = None

    def on_profile(self, profile: ShProfile, subscription: Subscription) -> None:
        self.profile, self.subscription = profile, subscription
        self.started.set()

    def on_push(self, data: ShData) -> None:
        self.pushes.append(data)
        self.pushed.set()
        self.pushed = trio.Event()

    async def run(self, config: Config, **options: Any) -> None:
        self.n_pushed = await watch_profile(
            config, BOB, on_profile=self.on_profile, on_push=self.on_push, stop=self.stop, wait_s=WAIT_S, **options
        )


def test_watch_sees_each_change_until_the_count():
    async def scenario(hss: LabHss, config: Config) -> None:
        watcher = Watcher()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: watcher.run(config, count=4, origin_host="tool"))
            await watcher.started.wait()
            assert watcher.subscription is not None
            assert len(watcher.subscription.accepted) == 4
            for change, arguments in (
                (hss.set_repository, (BOB, b"agent", b"<new/>")),
                (hss.set_ifcs, (BOB, b"<IFCs/>")),
                (hss.set_registration, (BOB, 0, "")),
            ):
                change(*arguments)  # type: ignore[operator]
        assert watcher.n_pushed == 4
        told = sorted(watcher.pushes, key=repr)
        assert [each.repository[0].service_data for each in told if each.repository] == [b"<new/>"]
        assert [each.ifcs for each in told if each.ifcs is not None] == [b"<IFCs/>"]
        assert [each.user_state for each in told if each.user_state is not None] == [0]
        assert [each.scscf_name for each in told if each.scscf_name is not None] == [""]
        # a name of its own: nothing is left behind
        assert hss.sh.subscriptions == set()

    with_hss(scenario)


def test_watch_under_the_servers_name_leaves_the_servers_subscriptions():
    async def scenario(hss: LabHss, config: Config) -> None:
        watcher = Watcher()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run, config)
            await watcher.started.wait()
            watcher.stop.set()
        assert watcher.n_pushed == 0
        assert {subscription.origin_host for subscription in hss.sh.subscriptions} == {"as.example.net"}

    with_hss(scenario)


def test_watch_takes_what_it_can_get():
    async def scenario(hss: LabHss, config: Config) -> None:
        hss.set_repository(BOB, b"agent", None)
        hss.sh.denied = {DataReference.S_CSCF_NAME}
        watcher = Watcher()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: watcher.run(config, count=1, origin_host="tool"))
            await watcher.started.wait()
            hss.set_registration(BOB, 2, SCSCF)
        assert watcher.subscription == Subscription(
            ("IMS_USER_STATE", "INITIAL_FILTER_CRITERIA"),
            (
                ("REPOSITORY_DATA", "5106 SUBS_DATA_ABSENT: there is nothing yet to subscribe to"),
                ("S_CSCF_NAME", "5104 USER_DATA_CANNOT_BE_NOTIFIED: this Origin-Host may not subscribe to it"),
            ),
        )
        assert [each.user_state for each in watcher.pushes] == [2]
        assert hss.sh.subscriptions == set()

    with_hss(scenario)


def test_watch_without_any_subscription_is_a_refusal():
    async def scenario(hss: LabHss, config: Config) -> None:
        watcher = Watcher()
        for reference in (0, 11, 12, 13):
            hss.sh.denied.add(reference)
        hss.sh.denied.discard(0)
        hss.set_repository(BOB, b"agent", None)
        with pytest.raises(ShToolError) as caught:
            await watcher.run(config)
        assert caught.value.status == EXIT_REFUSED
        hss.ignores_subscriptions = True
        with pytest.raises(ShToolError) as caught:
            await watch_profile(config, BOB, on_profile=watcher.on_profile, on_push=watcher.on_push, wait_s=0.3)
        assert caught.value.status == EXIT_NO_PEER

    with_hss(scenario)


def test_ifcs_are_those_of_our_server_name():
    async def scenario(hss: LabHss, config: Config) -> None:
        hss.set_ifcs(BOB, IFCS.replace(b"as.example.net", b"tas.example.net"))
        profile = await get_profile(config, BOB, wait_s=WAIT_S)
        assert b"InitialFilterCriteria" not in (profile.ifcs or b"")

    with_hss(scenario)
