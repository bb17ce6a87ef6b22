"""An HSS without sockets for tests on a fake clock: answers requests of one ShClient in the same task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio.testing

from conformance.lab.hss_sh import Notification, ShService
from conformance.lab.subscribers import Subscriber
from diameter.dictionary import base
from diameter.dictionary.sh import SH, DataReference
from diameter.errors import RequestTimeoutError
from diameter.message import Message, Result
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.data_reference import Operation, rule_of
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    PushNotificationRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)
from diameter.sh.userdata import ShData, join_sh_data, parse_sh_data_untrusted, write_sh_data

BOB = "sip:bob@example.net"
IDENTITY = {"origin_host": "hss", "origin_realm": "realm"}
SUCCESS = Result(2001)


class FakeNode:
    """What ShClient needs of a node.

    Attributes:
        requests: what was sent, in order.
        answer: makes the answer; None: there will be none.
        delay_s: before each answer.
        state_id: Origin-State-Id in each answer, None without.
    """

    origin_host = "as"
    origin_realm = "realm"

    def __init__(self, answer: Callable[[Message], Message | None]) -> None:
        self.requests: list[Message] = []
        self.answer = answer
        self.delay_s = 0.0
        self.state_id: int | None = None
        self.on_restart: Callable[[str], None] | None = None
        self.on_isolated: Callable[[], None] | None = None
        self._number = 0

    def new_session_id(self) -> str:
        self._number += 1
        return f"as;1;{self._number}"

    async def request(self, message: Message, *, deadline_s: float, user: str | None = None) -> Message:
        self.requests.append(message)
        with trio.move_on_after(deadline_s):
            await trio.sleep(self.delay_s)
            answer = self.answer(message)
            if answer is None:
                await trio.sleep_forever()
            elif self.state_id is not None:
                return answer.build_answer([*answer.avps, base.ORIGIN_STATE_ID.avp(self.state_id)])
            else:
                return answer
        raise RequestTimeoutError("silent")

    @property
    def commands(self) -> list[str]:
        return [command.name for each in self.requests if (command := SH.find_command(each)) is not None]


class DocumentHss:
    """Serves one document: each request gets what it asks for of it; PURs change it.

    Attributes:
        data: the document.
        requests: typed, in order.
        results: by command name: refuses it.
        features: of the answers.
        sends_all: answers the whole document, whatever the question.
        first_only: looks at the first Data-Reference only, and says nothing of features.
        known: identities; empty: all.
        wildcard: given in each UDA.
    """

    def __init__(self, data: ShData) -> None:
        self.data = data
        self.requests: list[Any] = []
        self.results: dict[str, Result] = {}
        self.features = 3
        self.sends_all = False
        self.first_only = False
        self.known: set[str] = set()
        self.wildcard: str | None = None
        self.expires_in_s: float | None = None

    def answer(self, message: Message) -> Message | None:
        kind: Any
        match message.code:
            case 306:
                kind, operation = UserDataRequest, Operation.PULL
            case 307:
                kind, operation = ProfileUpdateRequest, Operation.UPDATE
            case _:
                kind, operation = SubscribeNotificationsRequest, Operation.SUBSCRIBE
        request = kind.read_untrusted(message)
        self.requests.append(request)
        given: dict[str, Any] = dict(IDENTITY, result=self.results.get(operation.value, SUCCESS))
        if self.known and request.user_identity.public_identity not in self.known:
            given["result"] = Result(5001, 10415)
        if self.features and not self.first_only:
            given["supported_features"] = (SupportedFeatures(self.features),)
        references = [DataReference(each) for each in request.data_references]
        for reference in references:
            assert operation in rule_of(reference).operations, reference
        if operation is Operation.UPDATE:
            if given["result"].is_success:
                self.data = join_sh_data(self.data, parse_sh_data_untrusted(request.user_data))
            return ProfileUpdateAnswer(**given).to_answer(message)
        if given["result"].is_success:
            asked = references[:1] if self.first_only else references
            found = self.data if self.sends_all else self.data.select(asked)
            given["user_data"] = write_sh_data(found)
        if operation is Operation.PULL:
            return UserDataAnswer(**given, wildcarded_public_identity=self.wildcard).to_answer(message)
        if self.expires_in_s is not None:
            given["expiry_time"] = int(trio.current_time() + self.expires_in_s)
        return SubscribeNotificationsAnswer(**given).to_answer(message)


def build_push(identity: str | UserIdentity, data: ShData | bytes, **changes: Any) -> Message:
    """A PNR to us."""
    values: dict[str, Any] = {
        "session_id": "hss;1;1",
        "origin_host": "hss",
        "origin_realm": "realm",
        "destination_host": "as",
        "destination_realm": "realm",
        "user_identity": UserIdentity(identity) if isinstance(identity, str) else identity,
        "user_data": data if isinstance(data, bytes) else write_sh_data(data),
    }
    return PushNotificationRequest(**values | changes).to_message()


def build_client(answer: Callable[[Message], Message | None], **config: Any) -> tuple[ShClient, FakeNode]:
    """A client whose wall clock is trio's."""
    node = FakeNode(answer)
    settings: dict[str, Any] = {
        "destination_realm": "realm",
        "server_name": "sip:as.example.net",
        "service_indication": "ai",
    }
    client = ShClient(node, ShConfig(**settings | config), wall=trio.current_time)  # type: ignore[arg-type]
    return client, node


def build_lab(*subscribers: Subscriber, **config: Any) -> tuple[ShClient, FakeNode, ShService, list[Notification]]:
    """A client of the lab's Sh side; notifications are collected."""
    users = {impu: each for each in subscribers for impu in each.impus}
    pushed: list[Notification] = []
    hss = ShService(users.get, pushed.extend)
    client, node = build_client(lambda message: hss.answer(message, IDENTITY), **config)
    return client, node, hss, pushed


def run_clocked(scenario: Callable[[trio.Nursery], Awaitable[None]], *, limit_s: float = 1e7) -> None:
    """Runs on a clock that jumps ahead whenever nothing happens."""

    async def main() -> None:
        with trio.fail_after(limit_s):
            async with trio.open_nursery() as nursery:
                await scenario(nursery)
                nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
