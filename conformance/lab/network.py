"""The embedded network: HSS, S-CSCF and two phones in this process, ims-as and the voice agent as processes.

Addresses share a prefix (``127.0.0`` by default), so that several labs can run side by side:

=============  ==================  =======================================
.10:3868       HSS                 Sh and Cx over Diameter
.20:5060       S-CSCF              SIP
.30:5060       ims-as              SIP; HTTP API on .30:8080; RTP 20000–20999
.40:9000       voice agent         WebSocket
.41:5060       caller's UE         SIP, RTP
.42:5060       legacy phone        SIP, RTP
=============  ==================  =======================================

Two users are served by ims-as, both with the legacy phone as their registered contact: ``alice`` whose criterion says
SESSION_CONTINUED and ``anna`` whose criterion says SESSION_TERMINATED.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import httpx
import trio
import yaml

from conformance.lab.capture import RtpCapture, SocketWatch
from conformance.lab.hss import LabHss, Subscriber
from conformance.lab.processes import ChildProcess, LabError
from conformance.lab.quirks import Quirk
from conformance.lab.scscf import LabScscf
from conformance.lab.ue import LabPhone
from diameter.message import Message
from ifc.model import (
    ApplicationServer,
    DefaultHandling,
    InitialFilterCriteria,
    MethodCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    TriggerPoint,
)
from ifc.writer import write_criteria
from ims_as.transport.endpoint import WireEvent

__all__ = ["Lab", "LabAddresses", "build_config", "build_criteria"]

DOMAIN = "ims.mnc001.mcc001.3gppnetwork.org"
AS_NAME = f"ai-as.{DOMAIN}"
AS_URI = f"sip:{AS_NAME}"
CALLER = f"sip:caller@{DOMAIN}"
ALICE = f"sip:alice@{DOMAIN}"
ANNA = f"sip:anna@{DOMAIN}"
SERVICE_INDICATION = b"ai-voice-agent"
SERVICE_DATA = b"<AgentProfile><Enabled>true</Enabled><Agent>default</Agent><Language>en</Language></AgentProfile>"
READY_DEADLINE_S = 20.0
PHONE_ANSWERS_AFTER_S = 1.5
"""Long enough for the agent to say that it transfers the caller."""
READY_POLL_S = 0.05
MAX_WIRE_EVENTS = 20_000
"""A demo has some hundreds; a lab that runs for days must not fill memory."""
RTP_PORTS = range(20000, 21000)
IMS_AS = (sys.executable, "-c", "import sys; from ims_as.cli import main; sys.exit(main(prog_name='ims-as'))")


@attrs.frozen
class LabAddresses:
    """Where everything listens."""

    prefix: str = "127.0.0"

    @property
    def hss(self) -> str:
        return f"{self.prefix}.10"

    @property
    def scscf(self) -> str:
        return f"{self.prefix}.20"

    @property
    def ims_as(self) -> str:
        return f"{self.prefix}.30"

    @property
    def engine(self) -> str:
        return f"{self.prefix}.40"

    @property
    def caller(self) -> str:
        return f"{self.prefix}.41"

    @property
    def phone(self) -> str:
        return f"{self.prefix}.42"

    @property
    def api_url(self) -> str:
        return f"http://{self.ims_as}:8080"

    @property
    def engine_url(self) -> str:
        return f"ws://{self.engine}:9000/"


def build_config(addresses: LabAddresses, directory: Path) -> dict[str, Any]:
    """ims-as's configuration for the lab."""
    return {
        "identity": AS_URI,
        "sip": {
            "listen": [f"udp:{addresses.ims_as}:5060", f"tcp:{addresses.ims_as}:5060"],
            "trusted_peers": [f"{addresses.prefix}.0/24"],
            "hosts": {AS_NAME: f"{addresses.ims_as}:5060"},
        },
        "diameter": {
            "origin_host": AS_NAME,
            "origin_realm": DOMAIN,
            "destination_realm": DOMAIN,
            "peers": [{"address": f"tcp:{addresses.hss}:3868"}],
            "sh": {"service_indication": SERVICE_INDICATION.decode()},
        },
        "media": {"address": addresses.ims_as, "ports": f"{RTP_PORTS.start}-{RTP_PORTS.stop - 1}", "max_load": 1},
        "agents": {"default": {"engines": [{"type": "websocket", "url": addresses.engine_url, "rate": 16000}]}},
        "limits": {"calls": 100, "latency_target_ms": 1000},  # speech is recognised on the same machine
        "api": {"listen": f"{addresses.ims_as}:8080"},
        "cdr": {"directory": str(directory / "cdr")},
    }


def build_criteria(handling: DefaultHandling, server_name: str = AS_URI) -> bytes:
    """The iFC of a served user: INVITEs for it go to ims-as first (registered or not)."""
    cases = (SessionCase.TERMINATING_REGISTERED, SessionCase.TERMINATING_UNREGISTERED)
    triggers = [ServicePointTrigger(MethodCondition("INVITE"), groups=(0,))]
    triggers += [ServicePointTrigger(SessionCaseCondition(case), groups=(1,)) for case in cases]
    server = ApplicationServer(server_name, default_handling=handling)
    return write_criteria([InitialFilterCriteria(0, TriggerPoint(True, tuple(triggers)), server)])


class Lab:
    """``async with trio.open_nursery() as n: await n.start(lab.run)``; cancelling ends every process.

    Args:
        directory: for configuration, logs and CDRs; must exist.
        hss_quirks: how the HSS deviates from the specifications.
    """

    def __init__(self, directory: Path, *, prefix: str = "127.0.0", hss_quirks: Collection[Quirk] = ()) -> None:
        self.directory = directory
        self.addresses = LabAddresses(prefix)
        self.engine_log = directory / "engine.jsonl"
        self._criteria = {
            ALICE: build_criteria(DefaultHandling.SESSION_CONTINUED),
            ANNA: build_criteria(DefaultHandling.SESSION_TERMINATED),
        }
        self.sip_wire: list[WireEvent] = []
        """What passed the S-CSCF."""
        self.diameter_wire: list[tuple[float, str, Message]] = []
        """What passed the HSS: wall clock, ``in`` or ``out``, message."""
        scscf_uri = f"sip:{self.addresses.scscf}:5060"
        self.hss = LabHss(
            self.addresses.hss,
            3868,
            self._subscribers(),
            scscf_name=scscf_uri,
            on_wire=self._on_diameter,
            quirks=hss_quirks,
        )
        contact = f"sip:{self.addresses.phone}:5060"
        self.scscf = LabScscf(
            host=self.addresses.scscf,
            profiles=self._criteria.get,
            contacts={CALLER: f"sip:{self.addresses.caller}:5060", ALICE: contact, ANNA: contact},
            hosts={AS_NAME: (self.addresses.ims_as, 5060)},
            on_wire=self._on_sip,
        )
        route = [f"<sip:{self.addresses.scscf}:5060;lr;orig>"]
        self.caller = LabPhone(name="caller", impu=CALLER, host=self.addresses.caller, route=route)
        self.phone = LabPhone(
            name="phone", impu=ALICE, host=self.addresses.phone, route=route, answer_after_s=PHONE_ANSWERS_AFTER_S
        )
        self.capture = RtpCapture(prefix)
        self.sockets = SocketWatch(self.addresses.ims_as, RTP_PORTS, (self.addresses.engine, 9000))
        self.engine: ChildProcess | None = None
        self.server: ChildProcess | None = None
        self._http = httpx.AsyncClient(base_url=self.addresses.api_url, timeout=2.0, trust_env=False)

    def _on_sip(self, event: WireEvent) -> None:
        if len(self.sip_wire) < MAX_WIRE_EVENTS:
            self.sip_wire.append(event)

    def _on_diameter(self, direction: str, peer: str, message: Message) -> None:
        if len(self.diameter_wire) < MAX_WIRE_EVENTS:
            self.diameter_wire.append((time.time(), direction, message))

    def _subscribers(self) -> dict[str, Subscriber]:
        scscf = f"sip:{self.addresses.scscf}:5060"
        subscribers = {}
        for impu, criteria in {**self._criteria, CALLER: b""}.items():
            subscribers[impu] = Subscriber(
                impi=impu.removeprefix("sip:"),
                impus=[impu],
                repository={SERVICE_INDICATION: SERVICE_DATA} if criteria else {},
                ifcs=criteria or b"<IFCs/>",
                scscf_name=scscf,
            )
        return subscribers

    async def run(self, task_status: trio.TaskStatus[Lab] = trio.TASK_STATUS_IGNORED) -> None:
        """Starts everything in order, then serves until cancelled.  Raises LabError, OSError (an address in use)."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.capture.run)
                nursery.start_soon(self.sockets.run)
                await nursery.start(self.hss.run)
                await self._start_scscf(nursery)
                await nursery.start(self.caller.run)
                await nursery.start(self.phone.run)
                await self.start_engine()
                await self._start_server()
                task_status.started(self)
                await trio.sleep_forever()
        finally:
            for process in (self.server, self.engine):
                if process is not None:
                    await process.end()
            await self._end_scscf()
            with trio.CancelScope(shield=True):
                await self._http.aclose()

    async def _start_scscf(self, nursery: trio.Nursery) -> None:
        """For labs with another S-CSCF.  Raises LabError."""
        await nursery.start(self.scscf.run)

    async def _end_scscf(self) -> None:
        """Runs to its end even when cancelled."""

    # ---------------------------------------------------------------- the voice agent

    async def start_engine(self, fault: Literal["hang"] | None = None) -> None:
        """Raises LabError."""
        await self.stop_engine()
        command = [sys.executable, "-m", "conformance.lab.engine", "--listen", self.addresses.engine_url]
        command += ["--log", str(self.engine_log), *(["--fault", fault] if fault else [])]
        self.engine = await ChildProcess.start(
            "voice agent", command, self.directory / "engine.log", wants_ready_line=True
        )
        await self.engine.read_ready_line(READY_DEADLINE_S)

    async def stop_engine(self) -> None:
        """From now on connections to it are refused."""
        if self.engine is not None:
            await self.engine.end()
            self.engine = None

    async def kill_engine(self) -> None:
        """As `stop_engine`, without a farewell."""
        if self.engine is not None:
            await self.engine.kill()
            self.engine = None

    # ---------------------------------------------------------------- ims-as

    def build_config(self) -> dict[str, Any]:
        """For labs that need another."""
        return build_config(self.addresses, self.directory)

    async def _start_server(self) -> None:
        config = self.directory / "as.yaml"
        config.write_text(yaml.safe_dump(self.build_config(), sort_keys=False))
        self.server = await ChildProcess.start(
            "ims-as", [*IMS_AS, "run", "-c", str(config)], self.directory / "ims-as.log"
        )
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Until ims-as says that it could serve a call.  Raises LabError."""
        reason = "no answer"
        with trio.move_on_after(READY_DEADLINE_S):
            while self.server is not None and self.server.is_running:
                try:
                    response = await self._http.get("/health/ready")
                    if response.status_code == httpx.codes.OK:
                        return
                    reason = response.text[:200]
                except httpx.TransportError as error:
                    reason = str(error)
                await trio.sleep(READY_POLL_S)
        words = self.server.last_words() if self.server is not None else ""
        raise LabError(f"ims-as did not get ready ({reason}){words}")

    async def fetch_call(self, call_id: str) -> dict[str, Any] | None:
        """What the API says of a call, by its id or a SIP Call-ID; None when it does not know it."""
        return await self.fetch_json(f"/calls/{call_id}")

    async def fetch_json(self, path: str) -> dict[str, Any] | None:
        """``path`` or a whole URL.  None when it is not there, or not an object."""
        try:
            response = await self._http.get(path)
        except httpx.TransportError:
            return None
        if response.status_code != httpx.codes.OK:
            return None
        found = response.json()
        return found if isinstance(found, dict) else None

    def lifeline_hosts(self) -> Mapping[str, str]:
        """Host address → short name of who has it."""
        names = ("hss", "scscf", "ims_as", "engine", "caller", "phone")
        return {getattr(self.addresses, name): name for name in names}
