from __future__ import annotations

import json

from diameter.sh.client import ShProfile
from diameter.sh.userdata import RepositoryData, ShData
from ims_as.sh_report import describe_profile, describe_push, profile_lines, push_lines
from tests.ims_as.sh_network import IFCS


def test_a_full_profile():
    profile = ShProfile("sip:bob@x", b"<a><b>1</b></a>", 3, IFCS, "sip:scscf", 1, ("tel:+1",))
    told = describe_profile(profile, "agent")
    assert json.loads(json.dumps(told)) == told
    assert told["criteria"][0]["default_handling"] == "SESSION_TERMINATED"
    assert list(profile_lines(told)) == [
        "user         sip:bob@x",
        "also         tel:+1",
        "state        REGISTERED",
        "S-CSCF       sip:scscf",
        "repository   agent, sequence number 3",
        "             <a>",
        "               <b>1</b>",
        "             </a>",
        "iFC          priority 7: sip:as.example.net, SESSION_TERMINATED",
        "             when (Method is INVITE)",
    ]


def test_an_empty_profile_says_what_is_not_there():
    assert list(profile_lines(describe_profile(ShProfile("tel:+1"), "agent"))) == [
        "user         tel:+1",
        "state        not told",
        "S-CSCF       not told",
        "repository   agent, no data",
        "iFC          not told",
    ]
    told = describe_profile(ShProfile("tel:+1", ifcs=b"<IFCs/>", scscf_name="", user_state=9), "agent")
    lines = list(profile_lines(told))
    assert lines[1:3] == ["state        9", "S-CSCF       none assigned"]
    assert lines[-1] == "iFC          none for this application server"


def test_hostile_data_stays_on_its_line():
    profile = ShProfile("sip:b", b"\x1b[2J\nplain", 1, b"<IFCs>", "sip:\r\x07", 1)
    lines = list(profile_lines(describe_profile(profile, "agent")))
    assert all(line.isprintable() for line in lines)
    assert any(line.startswith("iFC problem  not XML") for line in lines)


def test_a_criterion_that_cannot_be_read_is_told():
    told = describe_profile(ShProfile("sip:b", ifcs=b"<IFCs><InitialFilterCriteria/></IFCs>"), "agent")
    assert told["criteria"] == []
    assert "Priority" in told["problems"][0]


def test_notifications_tell_only_what_is_in_them():
    assert describe_push(ShData(user_state=0)) == {"user_state": "NOT_REGISTERED"}
    data = ShData(
        repository=(RepositoryData(b"agent", 4, None),), scscf_name="", ifcs=IFCS, deleted_identities=("sip:c",)
    )
    assert list(push_lines(describe_push(data))) == [
        "repository   agent, no data",
        "S-CSCF       none assigned",
        "iFC          priority 7: sip:as.example.net, SESSION_TERMINATED",
        "             when (Method is INVITE)",
        "deleted      sip:c",
    ]
    assert list(push_lines(describe_push(ShData()))) == ["nothing that is known here"]
