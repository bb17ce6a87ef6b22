"""The reg event package at Kamailio's S-CSCF: `sip.reg_event` against a core that we did not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import trio

from conformance.lab.kamailio import KamailioLab
from conformance.lab.network import ALICE
from ifc.parser import parse_criteria_untrusted
from ifc.writer import write_criteria

DEADLINE_S = 60.0


class WatchingLab(KamailioLab):
    """ims-as subscribes, and its criterion includes nothing: contacts are known by the package alone."""

    def __init__(self, directory: Path, *, prefix: str) -> None:
        super().__init__(directory, prefix=prefix)
        subscriber = self.hss.find(ALICE)
        assert subscriber is not None
        bare = [
            attrs.evolve(each, application_server=attrs.evolve(each.application_server, include_register_request=False))
            for each in parse_criteria_untrusted(subscriber.ifcs).criteria
        ]
        subscriber.ifcs = write_criteria(bare)

    def build_config(self) -> dict[str, Any]:
        config = super().build_config()
        config["sip"]["reg_event"] = True
        return config


async def registration(lab: KamailioLab) -> dict[str, Any] | None:
    return await lab.fetch_json(f"/registrations/{quote(ALICE, safe='')}")


def test_a_registration_is_followed(tmp_path: Path):
    async def main() -> None:
        lab = WatchingLab(tmp_path, prefix="127.0.95")
        lab.phone.impu = ALICE
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                await nursery.start(lab.run)
                assert await lab.register(lab.phone) == 200
                while not ((found := await registration(lab)) and found["contacts"]):
                    await trio.sleep(0.05)
                [contact] = found["contacts"]
                assert contact["uri"] == lab.phone.contact
                assert contact["expires_at"] - found["registered_at"] > 3500
                assert await lab.register(lab.phone, expires_s=0) == 200
                while await registration(lab) is not None:
                    await trio.sleep(0.05)
                nursery.cancel_scope.cancel()

    trio.run(main)
