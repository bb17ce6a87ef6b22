"""Criteria under another name than our identity, at an HSS that compares names letter by letter."""

from __future__ import annotations

import trio

from diameter.dictionary.sh import DataReference
from diameter.message import Message, Result
from diameter.sh.messages import UserDataAnswer, UserDataRequest
from diameter.sh.other_names import MAX_VAIN, join_ifcs
from diameter.sh.userdata import ShData, write_sh_data
from ifc.model import DefaultHandling
from ifc.parser import parse_criteria_untrusted
from tests.diameter.sh.fake_hss import BOB, IDENTITY, SUCCESS, build_client, run_clocked

OWN, TERM, ORIG = "sip:as.example.net", "sip:term@as.example.net", "sip:orig@as.example.net"
OTHERS = (TERM, ORIG)


def ifcs(*servers: tuple[str, int]) -> bytes:
    each = "".join(
        f"<InitialFilterCriteria><Priority>{priority}</Priority><ApplicationServer><ServerName>{name}</ServerName>"
        f"<DefaultHandling>1</DefaultHandling></ApplicationServer></InitialFilterCriteria>"
        for name, priority in servers
    )
    return f"<IFCs>{each}</IFCs>".encode()


class LiteralHss:
    """Has criteria under exact names; ``refuses``: requests for criteria alone."""

    def __init__(self, *names: str, refuses: bool = False, silent_for: tuple[str, ...] = ()) -> None:
        self.names = names
        self.refuses = refuses
        self.silent_for = silent_for
        self.asked: list[str | None] = []

    def answer(self, message: Message) -> Message | None:
        request = UserDataRequest.read_untrusted(message)
        wanted = [DataReference(each) for each in request.data_references]
        if DataReference.INITIAL_FILTER_CRITERIA in wanted:
            self.asked.append(request.server_name)
        if request.server_name in self.silent_for:
            return None
        if self.refuses and wanted == [DataReference.INITIAL_FILTER_CRITERIA]:
            return UserDataAnswer(**IDENTITY, result=Result(5102, 10415)).to_answer(message)
        found = [(name, n) for n, name in enumerate(self.names, 1) if name == request.server_name]
        data = ShData(ifcs=ifcs(*found), scscf_name="sip:scscf.example.net")
        return UserDataAnswer(**IDENTITY, result=SUCCESS, user_data=write_sh_data(data.select(wanted))).to_answer(
            message
        )


def test_criteria_are_found_under_the_names_of_the_session_cases():
    async def scenario(_: trio.Nursery) -> None:
        hss = LiteralHss(TERM, ORIG)
        client, _ = build_client(hss.answer, other_server_names=OTHERS, subscribe=False)
        profile = await client.fetch(BOB)
        assert profile.ifcs is not None
        found = parse_criteria_untrusted(profile.ifcs).criteria
        assert [each.application_server.server_name for each in found] == [TERM, ORIG]
        assert {each.application_server.default_handling for each in found} == {DefaultHandling.SESSION_TERMINATED}
        assert (hss.asked[0], sorted(hss.asked[1:])) == (OWN, [ORIG, TERM])
        await client.fetch(BOB)
        assert len(hss.asked) == 3, "the cache has all of it"

    run_clocked(scenario)


def test_nobody_is_asked_twice_where_our_identity_brings_criteria():
    async def scenario(_: trio.Nursery) -> None:
        hss = LiteralHss(OWN, TERM)
        client, _ = build_client(hss.answer, other_server_names=OTHERS, subscribe=False)
        await client.fetch(BOB)
        assert hss.asked == [OWN]

    run_clocked(scenario)


def test_no_criteria_at_all_is_no_error():
    async def scenario(_: trio.Nursery) -> None:
        hss = LiteralHss()
        client, _ = build_client(hss.answer, other_server_names=OTHERS, subscribe=False)
        profile = await client.fetch(BOB)
        assert profile.ifcs == b"<IFCs/>"
        assert profile.scscf_name == "sip:scscf.example.net"

    run_clocked(scenario)


def test_an_hss_that_refuses_the_other_names_is_not_asked_for_the_next_user():
    async def scenario(_: trio.Nursery) -> None:
        hss = LiteralHss(refuses=True)
        client, _ = build_client(hss.answer, other_server_names=OTHERS, subscribe=False)
        await client.fetch(BOB)
        await client.fetch("sip:carol@example.net")
        assert (hss.asked[0], sorted(hss.asked[1:3]), hss.asked[3:]) == (OWN, [ORIG, TERM], [OWN])

    run_clocked(scenario)


def test_an_hss_that_has_no_criteria_for_anybody_is_not_asked_for_long():
    async def scenario(_: trio.Nursery) -> None:
        hss = LiteralHss()
        client, _ = build_client(hss.answer, other_server_names=OTHERS, subscribe=False)
        for number in range(10):
            await client.fetch(f"sip:user{number}@example.net")
        assert len(hss.asked) == 10 + len(OTHERS) * MAX_VAIN
        await trio.sleep(601)
        await client.fetch("sip:another@example.net")
        assert len(hss.asked) == 11 + len(OTHERS) * (MAX_VAIN + 1)

    run_clocked(scenario)


def test_silence_for_another_name_costs_the_budget_and_no_more():
    async def scenario(_: trio.Nursery) -> None:
        hss = LiteralHss(ORIG, silent_for=(TERM,))
        client, _ = build_client(hss.answer, other_server_names=OTHERS, subscribe=False)
        began = trio.current_time()
        profile = await client.fetch(BOB)
        assert trio.current_time() - began <= 0.3 + 1e-6
        assert profile.ifcs is not None
        assert ORIG.encode() in profile.ifcs

    run_clocked(scenario)


def test_joined_criteria_keep_their_namespaces_and_order():
    one = b'<IFCs xmlns:x="urn:x"><InitialFilterCriteria x:a="1"/></IFCs>'
    two = b"<IFCs><InitialFilterCriteria><Priority>2</Priority></InitialFilterCriteria></IFCs>"
    joined = join_ifcs([one, two])
    assert joined.count(b"<InitialFilterCriteria") == 2
    assert b'xmlns:x="urn:x"' in joined
    assert joined.index(b'x:a="1"') < joined.index(b"<Priority>2")
