"""The lab HSS with one subscriber, as a process: python -m bench.hss HOST PORT IMPU"""

from __future__ import annotations

import sys

import trio

from conformance.lab.hss import LabHss, Subscriber

PROFILE = b"<AgentProfile><Enabled>true</Enabled><Agent>default</Agent></AgentProfile>"


async def main(host: str, port: int, impu: str) -> None:
    subscriber = Subscriber(impi="ai@bench.example", impus=[impu], repository={b"ai-voice-agent": PROFILE})
    hss = LabHss(host, port, {impu: subscriber})
    async with trio.open_nursery() as nursery:
        await nursery.start(hss.run)
        print("ready", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
