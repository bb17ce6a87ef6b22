"""Kamailio as the lab's S-CSCF: a real one, with Cx to the lab's HSS, in place of `LabScscf`.

Needs the Debian packages kamailio, kamailio-ims-modules and kamailio-presence-modules. The configuration beside this
module works around what version 5.6 gets wrong; its comments say what.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from conformance.lab.network import ALICE, ANNA, CALLER, DOMAIN, Lab, LabAddresses, build_criteria
from conformance.lab.processes import ChildProcess, LabError
from conformance.lab.registering import register
from conformance.lab.ue import LabPhone
from ifc.model import (
    ApplicationServer,
    DefaultHandling,
    InitialFilterCriteria,
    MethodCondition,
    ServicePointTrigger,
    TriggerPoint,
)
from ifc.parser import parse_criteria_untrusted
from ifc.writer import write_criteria
from ims_as.sip.flow import Destination

__all__ = ["KamailioLab", "KamailioScscf"]

TEMPLATES: Final = Path(__file__).with_name("kamailio")
PASSWORD: Final = "secret"
READY_DEADLINE_S: Final = 15.0


@attrs.define
class KamailioScscf:
    """The process, its files in ``folder``.

    Attributes:
        silence_ms: how long an AS may be silent before default handling applies.
        ring_ms: how long after a 1xx.
    """

    addresses: LabAddresses
    folder: Path
    silence_ms: int = 2000
    ring_ms: int = 10_000
    process: ChildProcess | None = None

    @property
    def log(self) -> Path:
        return self.folder / "kamailio.log"

    async def start(self) -> None:
        """Start it; it is ready when it has connected to its HSS.  Raises LabError."""
        program = shutil.which("kamailio") or "/usr/sbin/kamailio"
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {
            "PREFIX_RE": self.addresses.prefix.replace(".", "\\."),
            "PREFIX": self.addresses.prefix,
            "FOLDER": str(self.folder),
            "ISC_FR_INV": str(self.ring_ms),
            "ISC_FR": str(self.silence_ms),
        }
        for name in ("scscf.cfg", "cdp.xml"):
            text = (TEMPLATES / name).read_text(encoding="utf-8")
            for key, value in values.items():
                text = text.replace(f"@{key}@", value)
            (self.folder / name).write_text(text, encoding="utf-8")
        config = str(self.folder / "scscf.cfg")
        command = [program, "-DD", "-E", "-f", config, "-Y", str(self.folder), "-P", str(self.folder / "pid")]
        self.process = await ChildProcess.start("Kamailio", command, self.log)

    async def end(self) -> None:
        if self.process is not None:
            await self.process.end()


def with_register_criterion(ifcs: bytes, server_name: str) -> bytes:
    """Those criteria, and one for a third-party REGISTER that includes the UE's own."""
    trigger = ServicePointTrigger(MethodCondition("REGISTER"), groups=(0,))
    server = ApplicationServer(server_name, DefaultHandling.SESSION_CONTINUED, include_register_request=True)
    criterion = InitialFilterCriteria(10, TriggerPoint(True, (trigger,)), server)
    return write_criteria([*parse_criteria_untrusted(ifcs).criteria, criterion])


class KamailioLab(Lab):
    """The embedded network with Kamailio as S-CSCF; the phones register with it by digest."""

    def __init__(self, directory: Path, *, prefix: str, silence_ms: int = 2000) -> None:
        super().__init__(directory, prefix=prefix)
        self.kamailio = KamailioScscf(self.addresses, directory / "kamailio", silence_ms=silence_ms)
        route = [f"<sip:orig@{self.addresses.scscf}:5060;lr>"]
        self.caller = LabPhone(name="caller", impu=CALLER, host=self.addresses.caller, route=route)
        server = self.server_name
        criteria = {
            CALLER: b"<IFCs/>",
            ALICE: with_register_criterion(build_criteria(DefaultHandling.SESSION_CONTINUED, server), server),
            ANNA: build_criteria(DefaultHandling.SESSION_TERMINATED, server),
        }
        for impu, ifcs in criteria.items():
            subscriber = self.hss.find(impu)
            assert subscriber is not None
            subscriber.password = PASSWORD
            subscriber.scscf_name = ""
            subscriber.ifcs = ifcs

    @property
    def server_name(self) -> str:
        """Of ims-as in the criteria: its address, for Kamailio would ask a name server for a name."""
        return f"sip:{self.addresses.ims_as}:5060"

    def build_config(self) -> dict[str, Any]:
        return {**super().build_config(), "identity": self.server_name}

    async def _start_scscf(self, nursery: trio.Nursery) -> None:
        del nursery
        await self.kamailio.start()
        with trio.move_on_after(READY_DEADLINE_S):
            await self.hss.node.wait_open()
            return
        words = self.kamailio.process.last_words() if self.kamailio.process is not None else ""
        raise LabError(f"Kamailio did not connect to the HSS{words}")

    async def _end_scscf(self) -> None:
        await self.kamailio.end()

    async def register(self, phone: LabPhone, *, expires_s: int = 3600) -> int:
        """The phone's REGISTER with authentication; the final status."""
        registrar = Destination("UDP", self.addresses.scscf, 5060)
        impi = phone.impu.removeprefix("sip:")
        return await register(
            phone, registrar=registrar, impi=impi, password=PASSWORD, domain=DOMAIN, expires_s=expires_s
        )
