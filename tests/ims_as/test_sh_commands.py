from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from conformance.lab.hss import LabHss
from diameter.dictionary.sh import DataReference
from diameter.message import Message
from ims_as.cli import main
from tests.ims_as.sh_network import BOB, ThreadedHss, config_text, threaded_hss


@pytest.fixture
def hss() -> Iterator[ThreadedHss]:
    with threaded_hss() as running:
        yield running


@pytest.fixture
def config(hss: ThreadedHss, tmp_path: Path) -> str:
    path = tmp_path / "as.yaml"
    path.write_text(config_text(hss.port))
    return str(path)


def sh(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["sh", *arguments], input=stdin)


def test_get_prints_the_profile(config: str):
    result = sh("get", "-c", config, BOB)
    assert result.exit_code == 0
    assert "state        REGISTERED\n" in result.stdout
    assert "priority 7: sip:as.example.net, SESSION_TERMINATED" in result.stdout
    told = json.loads(sh("get", "--json", "-c", config, "--origin-host", "tool", BOB).stdout)
    assert told["service_data"].startswith("<AgentProfile>")
    assert told["criteria"][0]["priority"] == 7


def test_put_stores_and_deletes(config: str, hss: ThreadedHss, tmp_path: Path):
    file = tmp_path / "profile.xml"
    file.write_text("<?xml version='1.0'?>\n<AgentProfile/>\n")
    result = sh("put", "-c", config, BOB, str(file))
    assert (result.exit_code, result.stdout) == (0, "stored with sequence number 1 (was 0)\n")
    stored = json.loads(sh("put", "--json", "-c", config, BOB, "-", stdin=b"<b/>").stdout)
    assert stored == {"impu": BOB, "sequence_before": 1, "sequence": 2}
    assert sh("put", "-c", config, "--delete", BOB).stdout == "deleted (sequence number was 2)\n"
    assert hss.hss.find(BOB).repository == {}  # type: ignore[union-attr]
    assert sh("put", "-c", config, BOB, "-", stdin=b"<b/>").stdout == "stored with sequence number 0 (there was none)\n"


def test_exit_status_tells_what_went_wrong(config: str, hss: ThreadedHss, tmp_path: Path):
    result = sh("get", "-c", config, "sip:nobody@example.net")
    assert (result.exit_code, result.stderr) == (
        4,
        "ims-as: the HSS refused: 5001 USER_UNKNOWN: the HSS does not know this identity\n",
    )
    hss.hss.silent = True
    assert sh("get", "-c", config, "--wait", "0.2", BOB).exit_code == 3
    assert sh("get", "-c", config, "--set", "diameter.peers=[]", BOB).exit_code == 3
    for usage in (
        ["get", BOB],
        ["get", "-c", config, "bob"],
        ["get", "-c", config, "--set", "diameter.nonsense=1", BOB],
        ["put", "-c", config, BOB],
        ["put", "-c", config, "--delete", BOB, config],
    ):
        assert sh(*usage).exit_code == 2, usage
    result = sh("put", "-c", config, BOB, "-", stdin=b"<a>")
    assert result.exit_code == 2
    assert "not well-formed XML" in result.stderr


def start_watch(config: str, *arguments: str) -> subprocess.Popen[str]:
    code = "import sys; from ims_as.cli import main; sys.exit(main(prog_name='ims-as'))"
    return subprocess.Popen(
        [sys.executable, "-c", code, "sh", "watch", "-c", config, *arguments, BOB],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_watch_prints_each_notification_until_interrupted(config: str, hss: ThreadedHss):
    process = start_watch(config, "--json", "--origin-host", "tool")
    assert process.stdout is not None
    try:
        profile = json.loads(process.stdout.readline())
        assert (profile["event"], profile["sequence"], profile["refused"]) == ("profile", 0, {})
        hss.call(hss.hss.set_repository, BOB, b"agent", b"<changed/>")
        notified = json.loads(process.stdout.readline())
        assert notified["event"] == "notification"
        assert notified["repository"][0]["sequence"] == 1
        assert notified["repository"][0]["service_data"] == "<changed/>"
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.communicate()
    assert hss.hss.sh.subscriptions == set()


def test_watch_for_people_says_what_it_watches(config: str, hss: ThreadedHss):
    hss.hss.ignores_subscriptions = True
    assert sh("watch", "-c", config, "--wait", "0.2", BOB).exit_code == 3
    hss.hss.ignores_subscriptions = False
    hss.hss.sh.denied = {12}
    hss.call(_change_at_subscription, hss.hss)
    process = start_watch(config, "--count", "1")
    try:
        lines = process.communicate(timeout=10)[0].splitlines()
    finally:
        process.kill()
    assert process.returncode == 0
    assert "watching     REPOSITORY_DATA, IMS_USER_STATE, INITIAL_FILTER_CRITERIA" in lines
    assert any(line.startswith("not watching S_CSCF_NAME: 5104 ") for line in lines)
    assert lines[-2].endswith(" notification")
    assert lines[-1] == "state        NOT_REGISTERED"


def _change_at_subscription(hss: LabHss) -> None:
    """The user's state changes as soon as somebody would be told."""
    subscribe = hss.sh._subscribe

    def changed(request: Message, identity: dict[str, Any]) -> Message:
        answer = subscribe(request, identity)
        if any(each.data_reference == DataReference.IMS_USER_STATE for each in hss.sh.subscriptions):
            hss.set_registration(BOB, 0, "")
        return answer

    hss.sh._subscribe = changed  # type: ignore[method-assign]
