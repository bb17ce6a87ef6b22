"""Filter criteria that have us under another name than our identity (trio).

Operators write one ServerName for each session case (``sip:term@…``, ``sip:orig@…``), and an HSS that compares names
letter by letter answers a request with our identity as Server-Name (TS 29.328 §7.6.8) with no criteria at all. Then it
is asked again with each of the other names, at once and within the same budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from attrs import evolve
from lxml import etree

from diameter.dictionary.sh import DataReference
from diameter.sh.data_reference import ShKeys
from diameter.sh.errors import ShError, ShRefusedError
from diameter.sh.exchange import PullAnswer
from diameter.sh.messages import UserIdentity
from diameter.sh.puller import HSS_MEMORY_S, ShPuller

__all__ = ["OtherNames", "join_ifcs"]

MAX_VAIN = 3
"""After so many users in a row for whom no name brought anything, the HSS is not asked so for a while."""
_REFERENCES = (DataReference.INITIAL_FILTER_CRITERIA,)
_CRITERION = "InitialFilterCriteria"


def has_criteria(ifcs: bytes | None) -> bool:
    """Whether there is a criterion in what the reader of Sh-Data has left of ``IFCs``."""
    return ifcs is not None and _CRITERION.encode() in ifcs


def join_ifcs(parts: Sequence[bytes]) -> bytes:
    """One ``IFCs`` element with the children of several, all of them from the reader of Sh-Data."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    first, *others = (etree.fromstring(part, parser) for part in parts)
    for other in others:
        first.extend(list(other))
    return etree.tostring(first, encoding="unicode").encode()


class OtherNames:
    """Asks for criteria by the names that are left when the first one has brought none."""

    def __init__(self, puller: ShPuller, names: Sequence[str]) -> None:
        self._puller = puller
        self._names = tuple(names)
        self._not_before = float("-inf")
        self._vain = 0

    async def complete(self, answer: PullAnswer, impu: str, keys: ShKeys, deadline: float) -> PullAnswer:
        """The answer with criteria, if any other name brings them in time; never an error."""
        if has_criteria(answer.data.ifcs) or not self._names or trio.current_time() < self._not_before:
            return answer
        found: dict[str, bytes] = {}
        refusals = 0

        async def ask(name: str) -> None:
            nonlocal refusals
            try:
                one = await self._puller.pull(UserIdentity(impu), _REFERENCES, evolve(keys, server_name=name), deadline)
            except ShRefusedError:
                refusals += 1
            except ShError:
                return
            else:
                if one.data.ifcs is not None and has_criteria(one.data.ifcs):
                    found[name] = one.data.ifcs

        async with trio.open_nursery() as nursery:
            for name in self._names:
                nursery.start_soon(ask, name)
        self._vain = 0 if found else self._vain + 1
        if refusals == len(self._names) or self._vain == MAX_VAIN:
            self._vain = 0
            self._not_before = trio.current_time() + HSS_MEMORY_S  # it gives no criteria to anybody like us
        if not found:
            return answer
        parts = [found[name] for name in self._names if name in found]
        return evolve(answer, data=evolve(answer.data, ifcs=join_ifcs(parts)))
