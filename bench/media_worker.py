"""A media worker process that a benchmark drives over its control channel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from bench.media_direct import Control, cpu_s, pinned, pss_kib

WORKER_HOST = "127.0.0.64"


class Worker:
    """A media worker process and its control channel."""

    def __init__(self, ports: str) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        command = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno())]
        command += ["--address", WORKER_HOST, "--ports", ports]
        self.process = subprocess.Popen(pinned("0", command, False), pass_fds=[theirs.fileno()])
        theirs.close()
        self.socket = ours
        self.control = Control(ours)
        self.control.command("ping")

    @property
    def cpu_s(self) -> float:
        return cpu_s(self.process.pid)

    def state(self) -> dict[str, int]:
        pid = self.process.pid
        return {"pss_kib": pss_kib(pid), "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}

    def close(self) -> None:
        self.socket.close()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
