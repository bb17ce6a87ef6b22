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
from ims_as.call.service_settings import SETTINGS
from ims_as.cli import main
from ims_as.config import Config
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
    assert result.exit_code == 0
    assert result.stdout == "stored with sequence number 1 (was 0)\n             agent: default → not set\n"
    stored = json.loads(sh("put", "--json", "--force", "-c", config, BOB, "-", stdin=b"<b/>").stdout)
    assert stored == {"impu": BOB, "sequence_before": 1, "sequence": 2}
    assert sh("put", "-c", config, "--delete", BOB).stdout == "deleted (sequence number was 2)\n"
    assert hss.hss.find(BOB).repository == {}  # type: ignore[union-attr]
    result = sh("put", "-c", config, BOB, "-", stdin=b"<AgentProfile/>")
    assert result.stdout.startswith("stored with sequence number 0 (there was none)\n")


def test_a_profile_that_is_not_valid_is_refused_with_line_and_reason(config: str, hss: ThreadedHss, tmp_path: Path):
    file = tmp_path / "profile.xml"
    file.write_text("<AgentProfile>\n<Enabled>perhaps</Enabled>\n<Foo/>\n</AgentProfile>")
    result = sh("put", "-c", config, BOB, str(file))
    assert result.exit_code == 2
    assert result.stderr == (
        f"ims-as: {file} is not a valid profile (--force stores it all the same):\n"
        "  line 2: Enabled: neither true nor false\n"
        "  line 3: Foo: This element is not expected.\n"
    )
    assert [record.command for record in hss.hss.requests] == []
    assert sh("put", "-c", config, "--force", BOB, str(file)).exit_code == 0
    told = sh("get", "-c", config, BOB).stdout
    assert "not used     Enabled: neither true nor false\n" in told
    assert "unknown      Foo\n" in told


def test_single_settings_are_changed_and_the_rest_stays(config: str, hss: ThreadedHss):
    bob = hss.hss.find(BOB)
    assert bob is not None
    bob.repository[b"agent"] = b"<AgentProfile><Agent>default</Agent><Foo>kept</Foo></AgentProfile>"
    result = sh("put", "-c", config, BOB, "--set", "limits.call_seconds=600", "--set", "agent=", "--set", "enabled=no")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "stored with sequence number 1 (was 0)\n"
        "             enabled: true → false\n"
        "             agent: default → not set\n"
        "             limits.call_seconds: not set → 600\n"
    )
    told = json.loads(sh("get", "--json", "-c", config, BOB).stdout)
    assert told["settings"] == {"enabled": False, "limits.call_seconds": 600}
    assert told["unknown_elements"] == ["Foo"]
    again = sh("put", "-c", config, BOB, "--set", "enabled=false")
    assert again.stdout == "nothing to change (sequence number 1)\n"
    assert [record.command for record in hss.hss.requests].count("PUR") == 1
    changed = sh("put", "--json", "-c", config, BOB, "--set", "language=de")
    assert json.loads(changed.stdout)["changes"] == [{"name": "language", "before": None, "after": "de"}]


def test_what_is_stored_can_be_edited_as_a_file(config: str, tmp_path: Path):
    stored = sh("get", "-c", config, "--xml", BOB).stdout_bytes
    assert stored == b"<AgentProfile><Agent>default</Agent></AgentProfile>\n"
    assert sh("put", "-c", config, BOB, "-", stdin=stored.replace(b"default", b"night")).exit_code == 0
    assert "agent                   night\n" in sh("get", "-c", config, BOB).stdout
    assert sh("put", "-c", config, "--delete", BOB).exit_code == 0
    assert sh("get", "-c", config, "--xml", BOB).exit_code == 1
    made = sh("put", "-c", config, BOB, "--set", "agent=default")
    assert made.stdout.startswith("stored with sequence number 0 (there was none)\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--set", "agnet=x"], "expected SETTING=VALUE with one of enabled, agent,"),
        (["--set", "agent"], "expected SETTING=VALUE"),
        (["--set", "enabled=perhaps"], "enabled=perhaps: neither true nor false"),
        (["--set", "limits.call_seconds=0"], "limits.call_seconds=0: not a number from 1 to 86400"),
        (["--set", "limits.call_secs=1"], "limits.call_secs"),
        (["--set", "queue=mailto:a@b"], "queue=mailto:a@b: not a sip, sips or tel URI"),
        (["--set", "agent=x", "--delete"], "give FILE, --set SETTING=VALUE or --delete"),
    ],
)
def test_a_setting_that_there_is_not_says_so(config: str, hss: ThreadedHss, words: list[str], reason: str):
    result = sh("put", "-c", config, BOB, *words)
    assert result.exit_code == 2
    assert reason in result.stderr.replace("\n", " ")
    assert not hss.hss.requests


def test_data_of_others_is_not_edited(config: str, hss: ThreadedHss):
    bob = hss.hss.find(BOB)
    assert bob is not None
    bob.repository[b"agent"] = b"<Other/>"
    result = sh("put", "-c", config, BOB, "--set", "agent=x")
    assert result.exit_code == 2
    assert "what is stored is Other, not AgentProfile" in result.stderr
    assert bob.repository[b"agent"] == b"<Other/>"


def test_an_agent_that_is_not_configured_is_told(config: str):
    result = sh("put", "-c", config, BOB, "--set", "agent=nigth")
    assert result.exit_code == 0
    assert "warning: this configuration has no agent nigth" in result.stderr


def test_no_setting_is_called_like_a_key_of_the_configuration():
    config = Config()
    for setting in SETTINGS:
        found: object = config
        for part in setting.name.split("."):
            found = getattr(found, part, None)
        assert found is None, setting.name


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
        hss.call(hss.hss.set_repository, BOB, b"agent", b"<AgentProfile><Agent>night</Agent></AgentProfile>")
        notified = json.loads(process.stdout.readline())
        changes = notified["repository"][0]["changes"]
        assert changes == [{"name": "agent", "before": "default", "after": "night"}]
        hss.call(hss.hss.set_repository, BOB, b"agent", b"<changed/>")
        notified = json.loads(process.stdout.readline())
        assert notified["event"] == "notification"
        assert notified["repository"][0]["sequence"] == 2
        assert "changes" not in notified["repository"][0]
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
