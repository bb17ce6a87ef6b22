"""freeDiameter as the lab's Diameter agent: a real relay (DRA) between application servers and the lab's HSS.

Needs the Debian packages freediameter and freediameter-extensions, and openssl. What version 1.2.1 wants:

- It does not listen on 127.0.0.0/8 (and then finds no address to announce), so a relay needs an address that is none.
  As root one of the range for benchmarks (RFC 2544) is put on the loopback interface for as long as the relay runs;
  without that right it listens on an address that the machine has, and only named peers are let in.
- Certificates are obligatory, also where all peers speak plain text.
- Tw and Tc are 6 s at least.
- It needs no dictionary for Sh: what it relays it need not understand.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from conformance.lab.processes import ChildProcess, LabError

__all__ = ["FreeDiameterRelay", "LabCertificates", "RelayPeer"]

EXTENSIONS: Final = Path("/usr/lib/freeDiameter")
READY_DEADLINE_S: Final = 10.0
READY_TEXT: Final = "freeDiameterd daemon initialized"
TIMER_S: Final = 6
"""The least that it takes for Tw and Tc."""


@attrs.frozen
class RelayPeer:
    """A peer that the relay connects to."""

    identity: str
    """Its DiameterIdentity; with TLS its certificate must name it."""
    host: str
    port: int
    is_tls: bool = False


class LabCertificates:
    """An authority of the lab's own, made by openssl; the files are in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.ca = folder / "ca.pem"

    async def issue(self, identity: str) -> tuple[Path, Path]:
        """Certificate and key of a Diameter node.  Raises LabError."""
        if not self.ca.exists():
            await self._openssl(["req", "-x509", *_NEW_KEY, "-days", "2", "-subj", "/CN=lab", *self._out("ca")])
        certificate, key = (self._folder / f"{identity}.{kind}" for kind in ("pem", "key"))
        authority = ["-CA", str(self.ca), "-CAkey", str(self._folder / "ca.key")]
        names = ["-subj", f"/CN={identity}", "-addext", f"subjectAltName=DNS:{identity}"]
        usage = ["-addext", "basicConstraints=critical,CA:FALSE"]
        await self._openssl(["req", "-x509", *_NEW_KEY, "-days", "2", *authority, *names, *usage, *self._out(identity)])
        return certificate, key

    def _out(self, name: str) -> list[str]:
        return ["-out", str(self._folder / f"{name}.pem"), "-keyout", str(self._folder / f"{name}.key")]

    async def _openssl(self, arguments: Sequence[str]) -> None:
        try:
            done = await trio.run_process(
                ["openssl", *arguments], capture_stdout=True, capture_stderr=True, check=False
            )
        except OSError as error:
            raise LabError(f"openssl cannot be started: {error}") from error
        if done.returncode:
            raise LabError(f"openssl failed: {done.stderr.decode(errors='replace')[-400:]}")


_NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@attrs.define
class FreeDiameterRelay:
    """One relay; its files are in ``folder``, which it has for itself.

    Attributes:
        certificates: who vouches for it; its peers over TLS need certificates of the same authority.
        identity: its DiameterIdentity.
        realm: its own realm, and that of the peers it connects to.
        wanted_address: IPv4 address to listen on, not of 127.0.0.0/8.
        peers: whom it connects to.
        clients: whom it lets in, DiameterIdentities or ``*.realm``; over TLS their certificates must name them.
        needs_tls: lets nobody in without.
    """

    certificates: LabCertificates
    folder: Path
    identity: str
    realm: str
    wanted_address: str
    peers: Sequence[RelayPeer]
    clients: Sequence[str]
    needs_tls: bool = False
    extensions: Sequence[str] = ()
    """More ``LoadExtension`` lines."""
    address: str = ""
    """Where it listens, after ``start``."""
    port: int = 0
    tls_port: int = 0
    process: ChildProcess | None = None
    _added: bool = False

    @property
    def log(self) -> Path:
        return self.folder / "freediameter.log"

    async def start(self) -> None:
        """Start it; it listens when this returns.  A second time: again with the same ports.  Raises LabError."""
        program = shutil.which("freeDiameterd")
        if program is None:
            raise LabError("freeDiameterd is missing: install freediameter and freediameter-extensions")
        if not self.address:
            self.folder.mkdir(parents=True, exist_ok=True)
            await self._take_address()
            self.port, self.tls_port = _free_ports(self.address, 2)
            files = await self.certificates.issue(self.identity)
            (self.folder / "freediameter.conf").write_text(self._config(*files), encoding="utf-8")
        self.log.unlink(missing_ok=True)
        command = [program, "-c", str(self.folder / "freediameter.conf")]
        self.process = await ChildProcess.start("freeDiameter", command, self.log)
        with trio.move_on_after(READY_DEADLINE_S):
            while READY_TEXT not in self._read_log():
                if not self.process.is_running:
                    break
                await trio.sleep(0.02)
        if READY_TEXT not in self._read_log():
            words = self.process.last_words()
            await self.end()
            raise LabError(f"freeDiameter did not get ready{words}")

    async def kill(self) -> None:
        """SIGKILL, as when the machine fails."""
        assert self.process is not None
        await self.process.kill()

    async def stop(self) -> None:
        """SIGTERM: it says goodbye (DPR) to its peers and ends.  ``start`` brings it back."""
        if self.process is not None:
            await self.process.end()

    async def end(self) -> None:
        """Stop it for good.  Runs to its end even when cancelled."""
        with trio.CancelScope(shield=True):
            await self.stop()
            if self._added:
                await _ip("del", self.wanted_address)
                self._added = False

    def _read_log(self) -> str:
        try:
            return self.log.read_text("utf-8", "replace")
        except OSError:
            return ""

    async def _take_address(self) -> None:
        if _can_bind(self.wanted_address):
            self.address = self.wanted_address
        elif os.geteuid() == 0 and await _ip("add", self.wanted_address):
            self._added = True
            self.address = self.wanted_address
        else:
            self.address = _own_address()

    def _config(self, certificate: Path, key: Path) -> str:
        whitelist = self.folder / "whitelist.conf"
        flag = "" if self.needs_tls else "ALLOW_IPSEC "
        whitelist.write_text("".join(f"{flag}{each}\n" for each in self.clients), encoding="utf-8")
        lines = [
            f'Identity = "{self.identity}";',
            f'Realm = "{self.realm}";',
            f"Port = {self.port};",
            f"SecPort = {self.tls_port};",
            "No_SCTP;",
            "No_IPv6;",
            f'ListenOn = "{self.address}";',
            f"TcTimer = {TIMER_S};",
            f"TwTimer = {TIMER_S};",
            f'TLS_Cred = "{certificate}", "{key}";',
            f'TLS_CA = "{self.certificates.ca}";',
            f'LoadExtension = "{EXTENSIONS}/acl_wl.fdx" : "{whitelist}";',
            *self.extensions,
        ]
        for peer in self.peers:
            security = "" if peer.is_tls else "No_TLS; "
            lines.append(
                f'ConnectPeer = "{peer.identity}" {{ ConnectTo = "{peer.host}"; port = {peer.port}; {security}}};'
            )
        return "\n".join(lines) + "\n"


async def _ip(verb: str, address: str) -> bool:
    """Puts an address on the loopback interface or takes it away; False when that cannot be done."""
    try:
        command = ["ip", "address", verb, f"{address}/32", "dev", "lo"]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _can_bind(address: str) -> bool:
    try:
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _own_address() -> str:
    """The address that this machine would send from.  Raises LabError."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise LabError("freeDiameter needs an address outside of 127.0.0.0/8, and this machine has none") from error


def _free_ports(address: str, count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((address, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
