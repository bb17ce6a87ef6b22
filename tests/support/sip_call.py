"""One call between two recording user agents on the fake network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ims_as.sip.flow import Flow
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from tests.support.link import link_pair
from tests.support.sip_agents import OFFER, OnInvite, RecordingAgent

__all__ = ["ANSWER", "Call", "answer", "name_of", "on", "ring"]

ANSWER = OFFER.replace(b"4000", b"5000")


def answer(agent: RecordingAgent, session: InviteSession) -> None:
    session.answer(ANSWER)


def ring(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(180)


def on(agent: RecordingAgent, kind: type, handler: Callable[[InviteSession, Any], object]) -> None:
    """Do that at each event of that kind."""

    def handle(session: InviteSession, event: SessionEvent) -> None:
        handler(session, event)

    agent.handlers[kind] = handle


def name_of(data: bytes) -> str:
    """``INVITE``, ``200 INVITE`` …"""
    message = parse_message_untrusted(data)
    return message.method if isinstance(message, Request) else f"{message.status} {message.cseq.method}"


class Call:
    """Alice at 10.0.0.1 calls Bob at 10.0.0.2.

    Args:
        options: for `UserAgent.invite`.
        alice, bob: options for their user agents.
        lose: the first two messages of that kind are lost.
    """

    def __init__(
        self,
        on_invite: OnInvite = answer,
        *,
        alice: dict[str, Any] | None = None,
        bob: dict[str, Any] | None = None,
        lose: str = "",
        **options: object,
    ) -> None:
        self.network, a, b = link_pair()
        self.alice = RecordingAgent(a, **(alice or {}))
        self.bob = RecordingAgent(b, on_invite, **(bob or {}))
        if lose:
            self.drop(lose, first=2)
        self.caller = self.alice.call(**options)

    alice_flow = Flow("UDP", ("10.0.0.1", 5060), ("10.0.0.2", 5060))
    """From Bob, as Alice sees it."""

    @property
    def callee(self) -> InviteSession:
        return self.bob.sessions[0]

    def run(self, seconds: float) -> Call:
        self.network.run(seconds)
        return self

    def drop(self, *names: str, until: float = 1e9, first: int = 10**9) -> None:
        """Lose messages of these kinds (``ACK``, ``200 INVITE``) up to a time, or the first few of each."""
        left = dict.fromkeys(names, first)

        def fate(data: bytes, source: tuple[str, int], target: tuple[str, int]) -> Sequence[float]:
            name = name_of(data)
            if left.get(name, 0) > 0 and self.network.clock() < until:
                left[name] -= 1
                return ()
            return (0.001,)

        self.network.fate = fate

    def finish(self) -> None:
        """Everything must run out, with one end for each session."""
        self.run(200)
        self.alice.assert_one_end()
        self.bob.assert_one_end()
        self.network.assert_clean()

    @property
    def messages(self) -> list[str]:
        return self.network.messages()

    def wire(self, name: str) -> list[Request | Response]:
        """The messages of that kind, retransmissions too."""
        return [parse_message_untrusted(data) for *_, data in self.network.sent if name_of(data) == name]

    def times(self, name: str) -> list[float]:
        """When they were sent, from the first on."""
        times = [when for when, *_, data in self.network.sent if name_of(data) == name]
        return [round(when - times[0], 3) for when in times]
