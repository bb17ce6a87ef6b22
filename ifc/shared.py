"""Shared sets of criteria: the HSS sends numbers, the S-CSCF has the criteria (TS 29.228 Annex E, TS 23.218 §5.2).

The table is local to each S-CSCF and no specification says how it is written.  We read what Sprout reads::

    <SharedIFCsSets>
      <SharedIFCsSet><SetID>7</SetID><InitialFilterCriteria>…</InitialFilterCriteria></SharedIFCsSet>
    </SharedIFCsSets>
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TypeAlias

import attrs

from ifc.model import InitialFilterCriteria, ServiceProfile

__all__ = ["ResolvedCriteria", "SharedSets", "resolve_shared_sets"]

SharedSets: TypeAlias = Mapping[int, tuple[InitialFilterCriteria, ...]]


@attrs.frozen
class ResolvedCriteria:
    criteria: tuple[InitialFilterCriteria, ...]
    """Of the profile and of its shared sets, in priority order; at equal priority the profile's own come first."""
    unknown_set_ids: tuple[int, ...] = ()
    """Sets that the table does not have: their services are missing."""
    colliding_priorities: tuple[int, ...] = ()
    """Priorities that occur more than once, which must not be (Annex B)."""


def resolve_shared_sets(profile: ServiceProfile, table: SharedSets) -> ResolvedCriteria:
    """What counts for the users of the profile."""
    criteria = list(profile.criteria)
    unknown = []
    for number in dict.fromkeys(profile.shared_ifc_set_ids):
        if number in table:
            criteria += table[number]
        else:
            unknown.append(number)
    criteria.sort(key=lambda criterion: criterion.priority)
    twice = dict.fromkeys(each.priority for before, each in pairwise(criteria) if before.priority == each.priority)
    return ResolvedCriteria(tuple(criteria), tuple(unknown), tuple(twice))
