"""The host of a URI, as Routes and ServerNames are compared; whom the HSS is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from diameter.sh.userdata import RepositoryData, ShData
from ims_as.call.profile import host_of, load_profile
from tests.diameter.sh.fake_hss import DocumentHss, build_client, run_clocked


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("sip:ai-as.example.net", "ai-as.example.net"),
        ("sip:term@AI-AS.example.net:5060;transport=tcp;lr", "ai-as.example.net"),
        ("sip:[2001:db8::1]:5060;lr", "[2001:db8::1]"),
        ("sips:a@b", "b"),
    ],
)
def test_host_of(uri: str, host: str):
    assert host_of(uri) == host


WILDCARD = "sip:room-!.*!@example.net"
SETTINGS = b"<AgentProfile><Enabled>true</Enabled><Agent>front-desk</Agent></AgentProfile>"


def test_users_under_a_wildcard_and_with_other_identities():
    async def scenario(_: Any) -> None:
        hss = DocumentHss(ShData(repository=(RepositoryData(b"ai", 0, SETTINGS),)))
        hss.known = {"sip:room-1@example.net", "sip:bob@example.net"}
        client, node = build_client(hss.answer, subscribe=False)
        for number, source in ((1, "hss"), (2, "cache")):
            found = await load_profile(client, f"sip:room-{number}@example.net", frozenset(), wildcard=WILDCARD)
            assert (found.source, found.settings.agent) == (source, "front-desk")
        assert hss.requests[-1].wildcarded_public_identity == WILDCARD
        n_requests = len(node.requests)
        found = await load_profile(client, "tel:+1", frozenset(), others=("sip:bob@example.net",))
        assert (found.source, found.settings.agent) == ("hss", "front-desk")
        assert len(node.requests) == n_requests + 1
        found = await load_profile(client, "tel:+2", frozenset())
        assert found.source == "none: the HSS does not know the user"

    run_clocked(scenario)
