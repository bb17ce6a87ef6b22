"""Connections that peers open: strangers until their CER, then frames of a link (trio)."""

from __future__ import annotations

from typing import Protocol

import trio

from diameter.base_commands import CER_CODE, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import ResultCode
from diameter.errors import FramingError, RemoteDiameterError
from diameter.message import Message, decode_message_untrusted
from diameter.peer import PeerState
from diameter.peer_link import PeerConfig, PeerLink
from diameter.routing import matches_host
from diameter.transport import Connection

__all__ = ["Acceptor", "AcceptorOwner"]

# connections that have not sent their CER yet; each costs a socket and a task
_MAX_STRANGERS = 64
# peers that connected to us; an HSS serves some dozen, and each is a few kB here
_MAX_ACCEPTED = 512


class AcceptorOwner(Protocol):
    """What the acceptor needs of its node."""

    links: list[PeerLink]
    commands: BaseCommands

    def new_link(self, name: str, config: PeerConfig | None) -> PeerLink: ...
    def count(self, what: str) -> None: ...
    def notify(self) -> None: ...


class Acceptor:
    """Takes the connections of one node.

    Args:
        wait_s: seconds until the CER has to be there.
        accept_from: as in `NodeConfig`.
    """

    def __init__(self, owner: AcceptorOwner, *, wait_s: float, accept_from: tuple[str, ...] | None = None) -> None:
        self._owner = owner
        self._wait_s = wait_s
        self._accept_from = accept_from
        self._n_strangers = 0
        self._accepted: set[PeerLink] = set()

    def accept(self, nursery: trio.Nursery | None, connection: Connection) -> None:
        """One new connection; without a nursery, or with too many strangers about, it is closed."""
        if nursery is None or self._n_strangers >= _MAX_STRANGERS:
            self._owner.count("connection_refused")
            connection.close()
            return
        self._n_strangers += 1
        nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        """A stranger until its CER; then its link gets every frame."""
        link: PeerLink | None = None
        is_stranger = True

        def receive_frame(frame: bytes) -> None:
            nonlocal link, is_stranger
            if link is not None:
                link.receive_frame_untrusted(connection, frame)
                return
            link = self._admit_untrusted(connection, frame)
            if link is None:
                connection.close()
                return
            is_stranger = False
            self._n_strangers -= 1
            patience.deadline = float("inf")

        try:
            with trio.move_on_after(self._wait_s) as patience:
                await connection.run(receive_frame)
        except FramingError as error:
            self._owner.count(error.reason)
        finally:
            connection.close()
            if is_stranger:
                self._n_strangers -= 1
            if link is not None:
                link.connection_ended(connection)
                if link in self._accepted and link.machine.state is PeerState.CLOSED:
                    self._accepted.discard(link)
                    self._owner.links.remove(link)
            self._owner.notify()

    def _admit_untrusted(self, connection: Connection, frame: bytes) -> PeerLink | None:
        """The link of a new connection by its first message, which has to be a CER."""
        try:
            cer = decode_message_untrusted(frame)
            if cer.code != CER_CODE or cer.application_id != 0 or not cer.is_request:
                raise RemoteDiameterError("first message is no CER")
            origin_host = (cer.text(base.ORIGIN_HOST) or "").lower()
        except RemoteDiameterError as error:
            self._owner.count(error.reason)
            return None
        if not connection.vouches_for(origin_host):
            self._refuse(connection, cer, "certificate of somebody else")
            return None
        for link in self._owner.links:
            if origin_host and link.origin_host.lower() == origin_host:
                return link if link.accept(connection, cer) else None
        if self._accept_from is not None and not matches_host(origin_host, self._accept_from):
            self._refuse(connection, cer, "unknown peer")
            return None
        if len(self._accepted) >= _MAX_ACCEPTED:
            self._owner.count("connection_refused")
            return None
        link = self._owner.new_link(origin_host, None)
        if not link.accept(connection, cer):
            return None
        self._accepted.add(link)
        self._owner.links.append(link)
        return link

    def _refuse(self, connection: Connection, cer: Message, reason: str) -> None:
        """RFC 6733 §5.3: a CER of somebody who may not be our peer."""
        self._owner.count(reason)
        error = RemoteDiameterError(reason, ResultCode.UNKNOWN_PEER)
        connection.send(self._owner.commands.error_answer(cer, error).encode())
