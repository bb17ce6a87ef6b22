"""Runs cases against a server that speaks SIP: SIPp as the caller's side, and a second one as the next hop.

Cases run side by side, each with ports of its own; those at place ``limited`` one after the other, since they share
what is limited.  With faults in the way (those of the case's ``link``, or of a wrong server that is to be noticed) a
relay stands between SIPp and the server.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import socket
import ssl
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path

import attrs
import trio

from conformance.case import DEFAULT_KEYS, Case
from conformance.fault import Fault, FaultyLink
from conformance.ladder import render_ladder
from conformance.relay import Relay
from conformance.sipp import Sipp, SippResult, load_pysipp
from conformance.target import RunnerError, Target, Targets, tls_context

__all__ = [
    "Outcome",
    "RunnerError",
    "Target",
    "Targets",
    "Trial",
    "Verdict",
    "leaves_of",
    "run_case",
    "run_cases",
    "try_cases",
]

SIPP = "sipp"
MAX_DETAIL_CHARS = 8000
"""Of SIPp's output in a verdict: the first error is what counts, later ones follow from it."""
DEFAULT_JOBS = 8
NEXT_HOP_GRACE_S = 2.0
"""How long the next hop may go on when the case is over, and how long a next hop may take to listen."""
FIRST_PORT, N_PORTS, BLOCK_PORTS = 10_000, 20_000, 8
"""Below what kernels give out by themselves, so that nobody takes a port between our look and SIPp's."""

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d\s[\d:.]+(?:\t[\d.]+)?: ")
"""Before each event of SIPp's error log, which has no line ends between events."""
_NOISE = ("The following events occurred:", "Failed to delete FD from epoll")
_blocks = itertools.count(os.getpid() % 100 * 25)


class Outcome(Enum):
    """FAILED: the server behaved otherwise.  ERROR: the case could not be tried.  LEFT_OUT: it was not to be tried."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    LEFT_OUT = "left out"


@attrs.frozen
class Verdict:
    case: Case
    outcome: Outcome
    seconds: float
    detail: str = ""
    """What SIPp said; empty when passed."""
    ladder: str = ""
    """The messages; empty when passed."""
    faults: tuple[Fault, ...] = ()
    """Of a wrong server, besides the case's link."""
    unused: tuple[str, ...] = ()
    """Faults that met no message."""

    @property
    def has_noticed(self) -> bool:
        """The case failed, and every fault had its chance."""
        return self.outcome is Outcome.FAILED and not self.unused


def _free_ports(host: str) -> tuple[int, int]:
    """Ports for one SIPp: for SIP, free on UDP and TCP, and for media, where it takes two.  Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for count in _blocks:
        port = FIRST_PORT + count * BLOCK_PORTS % N_PORTS
        wanted = [(socket.SOCK_STREAM, port), *((socket.SOCK_DGRAM, port + offset) for offset in (0, 2, 4))]
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for kind, number in wanted:
                stack.enter_context(socket.socket(family, kind)).bind((host, number))
            return port, port + 2
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # an address that is not ours fails here, instead of for ever
    raise AssertionError


def _events(errors: str) -> str:
    """SIPp's error log, one event per line and without what says nothing of the server."""
    events = (event.strip() for event in _TIMESTAMP.split(errors))
    return "\n".join(event for event in events if event and not event.startswith(_NOISE))


# ---------------------------------------------------------------- one case


def run_case(
    case: Case, target: Target, faults: Sequence[Fault] = (), keys: Mapping[str, str] = DEFAULT_KEYS
) -> Verdict:
    """One case to its end, within its time limit.  Blocks; never raises because of the server or SIPp.

    Args:
        faults: of a wrong server, besides what the case's link does.
        keys: the users that the cases call.
    """
    return trio.run(functools.partial(_run_case, case, target, faults, keys=keys))


async def _run_case(
    case: Case,
    target: Target,
    faults: Sequence[Fault] = (),
    *,
    keys: Mapping[str, str] = DEFAULT_KEYS,
    tls: ssl.SSLContext | None = None,
) -> Verdict:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ims-as-conformance-") as directory:
        run = _CaseRun(case, target, Path(directory), FaultyLink([*case.link, *faults]), keys, tls)
        problems: list[str] = []
        try:
            await run.run(has_relay=bool(case.link or faults or target.transport == "tls"))
        except* OSError as errors:
            problems = [str(each) for each in leaves_of(errors)]
    if not run.is_tried and not problems:
        problems = run.complaints
    seconds, detail = time.monotonic() - started, "\n".join(problems or run.complaints)
    if problems:
        return Verdict(case, Outcome.ERROR, seconds, detail)
    outcome, ladder = (Outcome.FAILED, run.ladder) if run.complaints else (Outcome.PASSED, "")
    return Verdict(case, outcome, seconds, detail[:MAX_DETAIL_CHARS], ladder, tuple(faults), tuple(run.link.unused))


def leaves_of(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """What really happened."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves_of(error)
        else:
            yield error


@attrs.define
class _CaseRun:
    """SIPp once or twice, and perhaps a relay."""

    case: Case
    target: Target
    directory: Path
    link: FaultyLink
    keys: Mapping[str, str]
    tls: ssl.SSLContext | None = None
    complaints: list[str] = attrs.Factory(list)
    ladder: str = ""
    is_tried: bool = False
    """SIPp said at least one word."""
    _next_hop_result: SippResult | None = None
    _next_hop_done: trio.Event = attrs.Factory(trio.Event)

    async def run(self, *, has_relay: bool) -> None:
        """Raises ExceptionGroup of OSError."""
        case, host = self.case, self.target.local_host
        local_port, media_port = _free_ports(host)
        hop_port, hop_media_port = _free_ports(host)
        local = host, local_port
        hop = None if case.peer is None else (host, hop_port)
        target = self.target.host, self.target.port
        async with trio.open_nursery() as nursery:
            sipp = Sipp(
                case.scenario,
                local,
                self.directory,
                target=target,
                transport="u1" if self.target.transport == "udp" else "t1",
                media_port=media_port,
                calls=case.calls,
                retransmit=case.retransmit,
                keys=self.keys if hop is None else {**self.keys, "next_hop": format_address(hop)},
            )
            relay = None
            if has_relay:
                tls = (self.tls or tls_context()) if self.target.transport == "tls" else None
                relay = Relay(self.link, target, local, self.target.transport, hop, tls)
                await nursery.start(relay.run)
                sipp = attrs.evolve(sipp, send_to=relay.near)
            peer = None
            if hop is not None and case.peer is not None:
                peer = attrs.evolve(
                    sipp, scenario=case.peer, local=hop, target=None, transport="u1", media_port=hop_media_port
                )
                nursery.start_soon(self._run_next_hop, peer)
                await _until_bound(hop)
            result = await sipp.run(case.timeout_s)
            self.is_tried = bool(result.messages)
            self._judge("", result)
            if peer is None:
                self.ladder = render_ladder(result.messages)
            else:
                with trio.move_on_after(NEXT_HOP_GRACE_S if result.ok else 0):
                    await self._next_hop_done.wait()
                heard = self._next_hop_result or peer.result(None)
                self._judge("next hop: ", heard)
                self.ladder = render_ladder(result.messages, heard.messages)
            if relay is not None and relay.n_unanswered_pings:
                self.complaints.append(f"{relay.n_unanswered_pings} keep-alives were not answered")
            nursery.cancel_scope.cancel()

    async def _run_next_hop(self, sipp: Sipp) -> None:
        self._next_hop_result = await sipp.run(self.case.timeout_s + NEXT_HOP_GRACE_S)
        self._next_hop_done.set()

    def _judge(self, who: str, result: SippResult) -> None:
        if result.ok:
            return
        ended = "was stopped: time limit" if result.returncode is None else f"ended with status {result.returncode}"
        self.complaints.append(f"{who}SIPp {ended}\n{_events(result.errors)}\n{result.command}")


def format_address(address: tuple[str, int]) -> str:
    """``host:port`` as in a SIP URI."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _until_bound(address: tuple[str, int]) -> None:
    """Waits until somebody listens there by UDP, as the kernel shows it; where it does not, a moment."""
    table = trio.Path("/proc/net/udp6" if ":" in address[0] else "/proc/net/udp")
    wanted = f":{address[1]:04X} "
    is_shown = await table.exists()
    with trio.move_on_after(NEXT_HOP_GRACE_S if is_shown else 0.3):
        while not is_shown or wanted not in await table.read_text():  # noqa: ASYNC110
            await trio.sleep(0.01)


# ---------------------------------------------------------------- many cases


@attrs.frozen
class Trial:
    """A case, and the fault of the wrong server that is to fail it."""

    case: Case
    faults: tuple[Fault, ...] = ()


def run_cases(
    cases: Sequence[Case], target: Targets | Target, *, on_verdict: Callable[[Verdict], None] = lambda verdict: None
) -> list[Verdict]:
    """All of them, each told as soon as it is over; blocks.  Raises RunnerError."""
    targets = target if isinstance(target, Targets) else Targets(target)
    return trio.run(functools.partial(try_cases, [Trial(case) for case in cases], targets, on_verdict=on_verdict))


async def try_cases(
    trials: Sequence[Trial],
    targets: Targets,
    *,
    keys: Mapping[str, str] = DEFAULT_KEYS,
    lacks: Iterable[str] = (),
    jobs: int = DEFAULT_JOBS,
    on_verdict: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Their verdicts, in the order of the trials; the longest begin first.

    Args:
        lacks: what the target has not got, words of `NEEDS`: cases that need it are left out.
        jobs: how many at a time; those at place ``limited`` come besides, one by one.

    Raises:
        RunnerError: SIPp is not there.
    """
    if shutil.which(SIPP) is None:
        raise RunnerError("sipp is not installed (Debian: sip-tester)")
    load_pysipp()  # at once, not under the time limit of the first case
    missing = set(lacks)
    verdicts: dict[int, Verdict] = {}

    async def work(queue: deque[tuple[int, Trial]]) -> None:
        while queue:
            index, trial = queue.popleft()
            case, target = trial.case, targets.of(trial.case)
            if target is None:
                verdict = Verdict(case, Outcome.LEFT_OUT, 0.0, f"no target at {case.at or case.transport}")
            elif unmet := missing & set(case.needs):
                verdict = Verdict(case, Outcome.LEFT_OUT, 0.0, f"no {', '.join(sorted(unmet))}")
            else:
                if case.at == "limited" and targets.clear is not None:
                    await targets.clear()
                verdict = await _run_case(case, target, trial.faults, keys=keys, tls=targets.tls)
            verdicts[index] = verdict
            on_verdict(verdict)

    ordered = sorted(enumerate(trials), key=lambda each: -each[1].case.timeout_s)
    limited = deque(each for each in ordered if each[1].case.at == "limited")
    others = deque(each for each in ordered if each[1].case.at != "limited")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work, limited)
        for _ in range(jobs):
            nursery.start_soon(work, others)
    return [verdicts[index] for index in range(len(trials))]
