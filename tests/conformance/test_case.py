from __future__ import annotations

from pathlib import Path

import pytest

from conformance.case import CASES, CaseError, find_cases, load_case

GOOD = 'summary = "s"\nclause = "c"\nscenario = "uac.xml"\ntimeout_s = 3\n'


def write_case(root: Path, name: str, text: str = GOOD) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "case.toml").write_text(text)
    (folder / "uac.xml").write_text("<scenario/>")
    return folder


def test_the_cases_that_come_with_it_can_be_used():
    cases = find_cases()
    assert {"isc/answered", "sip/options"} <= {case.name for case in cases}
    assert [case.name for case in cases] == sorted(case.name for case in cases)
    scenarios = {path for case in cases for path in (case.scenario, case.peer) if path is not None}
    assert scenarios == set(CASES.rglob("*.xml"))


def test_every_case_names_a_fault_that_must_fail_it():
    assert [case.name for case in find_cases() if not case.wrong] == []


def test_a_case_reads_as_written(tmp_path: Path):
    case = load_case(write_case(tmp_path, "isc/one", GOOD + 'calls = 5\nneeds = ["voice agent"]\n'))
    assert (case.name, case.area, case.summary, case.clause) == ("isc/one", "isc", "s", "c")
    assert (case.timeout_s, case.calls, case.needs) == (3.0, 5, ("voice agent",))
    assert case.scenario == tmp_path / "isc/one/uac.xml"
    assert (case.peer, case.link, case.wrong, case.transport, case.at, case.retransmit) == (None, (), (), "", "", True)


def test_a_case_with_everything_reads_as_written(tmp_path: Path):
    more = 'peer = "uac.xml"\nlink = ["drop to:INVITE#1"]\nwrong = ["drop *", "status 200 404"]\n'
    case = load_case(write_case(tmp_path, "isc/one", f'{GOOD}{more}transport = "udp"\nat = "ipv6"\nretransmit = false'))
    assert case.peer == case.scenario
    assert [fault.text for fault in case.link] == ["drop to:INVITE#1"]
    assert [fault.text for fault in case.wrong] == ["drop *", "status 200 404"]
    assert (case.transport, case.at, case.retransmit) == ("udp", "ipv6", False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "summary is None"),
        ("summary = [", "case.toml"),
        (GOOD + "colour = 1", "unknown key colour"),
        (GOOD.replace("3", '"3"'), "timeout_s"),
        (GOOD.replace("3", "true"), "timeout_s"),
        (GOOD.replace("3", "3000"), "goes to 300"),
        (GOOD + "calls = 0", "calls to 1000"),
        (GOOD + "needs = [1]", "needs"),
        (GOOD + 'needs = ["money"]', "needs 'money' is none of voice agent"),
        (GOOD + 'wrong = ["spoil 200"]', "wrong: 'spoil 200': no verb"),
        (GOOD + 'peer = "uas.xml"', "no scenario 'uas.xml'"),
        (GOOD + 'transport = "pigeon"', "none of udp, tcp"),
        (GOOD + 'at = "home"', "none of ipv6"),
        (GOOD + "retransmit = 1", "retransmit is 1"),
        (GOOD.replace("uac.xml", "../uac.xml"), "no scenario"),
        (GOOD.replace("uac.xml", "missing.xml"), "no scenario"),
    ],
)
def test_a_case_that_cannot_be_used_says_why(tmp_path: Path, text: str, reason: str):
    with pytest.raises(CaseError, match=reason) as caught:
        load_case(write_case(tmp_path, "isc/one", text))
    assert str(caught.value).startswith("isc/one: ")


def test_patterns_choose(tmp_path: Path):
    for name in ("isc/one", "isc/two", "sip/one"):
        write_case(tmp_path, name)

    def names(*patterns: str) -> list[str]:
        return [case.name for case in find_cases(tmp_path, patterns)]

    assert names() == ["isc/one", "isc/two", "sip/one"]
    assert names("isc") == ["isc/one", "isc/two"]
    assert names("*/one", "isc/two") == ["isc/one", "isc/two", "sip/one"]
    with pytest.raises(CaseError, match="no case sms"):
        names("isc", "sms")
