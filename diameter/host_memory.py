"""Which host serves a user: Origin-Host of the first answer, Destination-Host of the next requests (TS 29.328 §6.1),
sans-IO.

Only hosts behind an agent are worth remembering. A host that is our own peer is reached by the choice of the peer, and
without Destination-Host failover and failback stay free to take another one.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["HostMemory"]


class HostMemory:
    """Hosts by (application, user).

    Args:
        max_users: bound; the user that was used longest ago is forgotten first.
    """

    def __init__(self, *, max_users: int = 100_000) -> None:
        self._max_users = max_users
        self._hosts: OrderedDict[tuple[int, str], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._hosts)

    def find(self, application_id: int, user: str) -> str | None:
        """The user's host, None when not known."""
        key = (application_id, user)
        host = self._hosts.get(key)
        if host is not None:
            self._hosts.move_to_end(key)
        return host

    def learn(self, application_id: int, user: str, host: str) -> None:
        """The host has answered for the user."""
        key = (application_id, user)
        self._hosts[key] = host
        self._hosts.move_to_end(key)
        if len(self._hosts) > self._max_users:
            self._hosts.popitem(last=False)

    def forget(self, application_id: int, user: str) -> None:
        """The host did not serve the user: the realm is asked again."""
        self._hosts.pop((application_id, user), None)
