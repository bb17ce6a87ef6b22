"""Diameter: what a UDR and a PNR cost us, and what they cost python-diameter's node.

    python -m bench.diameter [--count 8000] [--rounds 3] [--seconds 4] [--rate 1000]

Both clients run alone on core 0 against the same C server on core 1 (``diameterd.c``), which answers with the same
bytes; only the CPU of the client process counts. Each is measured three times in turn, and its best counts;
python-diameter waits in threads, so it is tried with 1, 8 and 32 of them. JSON lines, each with its ratio.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.media_direct import pinned
from bench.programs import build_programs, peers_python
from diameter.avp import Avp
from diameter.base_commands import SH_APPLICATION, BaseCommands
from diameter.dictionary.base import DisconnectCause
from diameter.sh.messages import PushNotificationRequest, UserDataAnswer, UserDataRequest, UserIdentity
from diameter.sh.userdata import RepositoryData, ShData, write_sh_data

__all__ = ["latency", "pushes", "requests"]

HERE = Path(__file__).resolve().parent
HOST, PORT, REALM = "127.0.0.70", 3868, "bench.example"
SERVER, CLIENT, USER = "hss.bench.example", "as.bench.example", "sip:user-00000000@bench.example"
WIDTH = 32
"""Requests of ours under way, and PNRs."""
THREADS = (1, 8, 32)
ROUNDS = 3
CRITERION = b"""<InitialFilterCriteria><Priority>0</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT>
<SPT><ConditionNegated>0</ConditionNegated><Group>1</Group><SessionCase>1</SessionCase></SPT>
<SPT><ConditionNegated>0</ConditionNegated><Group>1</Group><SessionCase>2</SessionCase></SPT></TriggerPoint>
<ApplicationServer><ServerName>sip:as.bench.example</ServerName><DefaultHandling>0</DefaultHandling>
</ApplicationServer></InitialFilterCriteria>"""
PROFILE = b"<AgentProfile><Enabled>true</Enabled><Agent>default</Agent><Language>en</Language></AgentProfile>"
SI = b"ai-voice-agent"


def write_answers(directory: Path) -> None:
    """The bytes that the server answers with: see ``diameterd.c``."""
    commands = BaseCommands(SERVER, REALM, "diameterd", 0, 1, (SH_APPLICATION,))
    cer, dwr, dpr = commands.cer(HOST), commands.dwr(), commands.dpr(DisconnectCause.REBOOTING)
    document = write_sh_data(
        ShData(
            public_identities=(USER.replace("00000000", "########"),),
            repository=(RepositoryData(SI, 7, PROFILE),),
            scscf_name="sip:scscf.bench.example:6060",
            ifcs=b"<IFCs>" + CRITERION + b"</IFCs>",
            user_state=1,
        )
    )
    changed = write_sh_data(ShData(repository=(RepositoryData(SI, 11111, PROFILE),))).replace(b"11111", b"#####")
    user = UserIdentity(public_identity=USER)
    head = {"session_id": f"{SERVER};1;2", "origin_host": SERVER, "origin_realm": REALM}
    udr = UserDataRequest(**head, user_identity=user).to_message()
    uda = UserDataAnswer(origin_host=SERVER, origin_realm=REALM, user_data=document).to_answer(udr)
    pnr = PushNotificationRequest(
        **head, destination_host=CLIENT, destination_realm=REALM, user_identity=user, user_data=changed
    ).to_message()

    def body(avps: tuple[Avp, ...]) -> bytes:
        return b"".join(avp.encode() for avp in avps)

    for code, data in (
        (257, body(commands.cea(cer, HOST, 2001).avps)),
        (280, body(commands.dwa(dwr).avps)),
        (282, body(commands.dpa(dpr).avps)),
        (306, body(uda.avps[1:])),
        (309, pnr.encode()),
    ):
        (directory / str(code)).write_bytes(data)


@contextmanager
def running_server(*pushes: int) -> Iterator[None]:
    program = build_programs() / "diameterd"
    with tempfile.TemporaryDirectory() as directory:
        write_answers(Path(directory))
        command = [str(program), HOST, str(PORT), directory, *map(str, pushes)]
        process = subprocess.Popen(pinned("1", command, False), stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            if process.stdout.readline() != b"ready\n":
                raise SystemExit(f"{command} did not open its port")
            yield
        finally:
            process.kill()
            process.wait(5)
            process.stdout.close()


def ours(what: str, count: int, more: float = WIDTH) -> dict[str, Any]:
    return _measure([sys.executable, "-m", "bench.diameter_client"], what, count, more)


def theirs(what: str, count: int, threads: int) -> dict[str, Any]:
    return _measure([peers_python(), "-I", str(HERE / "python_diameter_client.py")], what, count, threads)


def _measure(program: list[str], what: str, count: int, more: float) -> dict[str, Any]:
    command = pinned("0", [*program, what, HOST, str(PORT), REALM, str(count), f"{more:g}"], False)
    with running_server(*([count, WIDTH] if what in ("push", "answer") else [])):
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=HERE.parent, timeout=60)
    result: dict[str, Any] = json.loads(done.stdout)
    return result | {"per_cpu_s": round(result["count"] / result["cpu_s"])}


def requests(count: int, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """UDR/UDA: python-diameter's best, then ours without and with the reading of Sh-Data."""
    few = max(400, count // 4)
    measures = {f"python-diameter, {n} threads": partial(theirs, "node", few, n) for n in THREADS}
    measures["node, typed messages"] = partial(ours, "node", count)
    measures["ShClient: Sh-Data read and cached"] = partial(ours, "fetch", count)
    rows = _best_in_turn(measures, rounds)
    reference = max(rows[: len(THREADS)], key=lambda row: row["per_cpu_s"])
    return _with_ratio([reference, *rows[len(THREADS) :]])


def pushes(count: int, rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """PNR/PNA: python-diameter reads and answers only, we take it into the cache."""
    few = max(400, count // 4)
    measures = {
        "python-diameter, answered": partial(theirs, "push", few, 1),
        "node, typed messages, answered": partial(ours, "answer", count),
        "ShClient: Sh-Data read and cached": partial(ours, "push", count),
    }
    return _with_ratio(_best_in_turn(measures, rounds))


def _best_in_turn(measures: dict[str, Callable[[], dict[str, Any]]], rounds: int) -> list[dict[str, Any]]:
    """Each several times, one after the other: what else the machine does can only cost CPU, never save it."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for what, measure in measures.items():
            row = measure() | {"what": what}
            if what not in best or row["per_cpu_s"] > best[what]["per_cpu_s"]:
                best[what] = row
    return list(best.values())


def latency(rate: float, seconds: float) -> dict[str, Any]:
    """ShClient, uncached users, each asked for when it is due."""
    return ours("rate", int(rate * seconds), rate) | {"rate": rate}


def _with_ratio(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        row["times_python_diameter"] = round(row["per_cpu_s"] / rows[0]["per_cpu_s"], 1)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    measures = (
        lambda: requests(options.count, options.rounds),
        lambda: pushes(options.count, options.rounds),
        lambda: [latency(options.rate, options.seconds)],
    )
    for measure in measures:
        for row in measure():
            print(json.dumps(row, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
