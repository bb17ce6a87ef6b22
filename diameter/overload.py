"""Overload control, RFC 7683 (DOIC), as a reacting node with the loss algorithm, sans-IO.

Every request of ours offers it (OC-Supported-Features, M clear); an answer may bring a report (OC-OLR): this host, or
this realm, wants N % less for some seconds. Which requests to drop is told by error diffusion: of 100 requests exactly
N, evenly spread, without any chance.

A host report counts for requests that go to that host: by Destination-Host, or because the host is the peer itself. A
realm report counts for those without Destination-Host.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum

from attrs import define

from diameter.avp import Avp
from diameter.dictionary.base import BASE
from diameter.dictionary.loader import AvpDefinition
from diameter.errors import RemoteDiameterError
from diameter.message import Message

__all__ = ["OC_OLR", "SUPPORTED_FEATURES", "OverloadControl", "ReportType", "report_avps"]

_FEATURES = BASE["OC-Supported-Features"]
_FEATURE_VECTOR = BASE["OC-Feature-Vector"]
OC_OLR = BASE["OC-OLR"]
_SEQUENCE_NUMBER = BASE["OC-Sequence-Number"]
_VALIDITY_DURATION = BASE["OC-Validity-Duration"]
_REPORT_TYPE = BASE["OC-Report-Type"]
_REDUCTION = BASE["OC-Reduction-Percentage"]
_ORIGIN_HOST = BASE["Origin-Host"]
_ORIGIN_REALM = BASE["Origin-Realm"]

_OLR_DEFAULT_ALGO = 1
SUPPORTED_FEATURES: Avp = _FEATURES.avp([_FEATURE_VECTOR.avp(_OLR_DEFAULT_ALGO)]).kept()
"""What our requests carry: the loss algorithm (§7.2)."""

# §7.5: default, and the longest that may be asked for; anything longer counts as the default
_DEFAULT_VALIDITY_S = 30
_MAX_VALIDITY_S = 86_400


class ReportType(IntEnum):
    """OC-Report-Type (§7.6)."""

    HOST = 0
    REALM = 1


@define
class _State:
    """Overload control state (§5.2.1.2) of one host or realm."""

    sequence: int
    reduction: int
    until: float
    debt: int = 0


class OverloadControl:
    """Reports in force.

    Args:
        max_states: hosts and realms at most; the oldest report is forgotten first.

    Attributes:
        states: empty when nobody has reported lately, to be looked at before anything else.
    """

    def __init__(self, *, max_states: int = 1024) -> None:
        self._max_states = max_states
        self.states: OrderedDict[tuple[ReportType, int, str], _State] = OrderedDict()

    def learn_untrusted(self, answer: Message, *, now: float) -> bool:
        """Takes the report of an answer, if there is one that is newer than what we have.

        Returns:
            True when something changed.

        Raises:
            RemoteDiameterError: the report cannot be read. It is to be ignored then (§7.3).
        """
        report = answer.group(OC_OLR)
        if report is None or answer.avps.find(_FEATURES.key) is None:
            return False
        sequence = _SEQUENCE_NUMBER.number(report)
        kind = _REPORT_TYPE.number(report)
        if sequence is None or kind not in (ReportType.HOST, ReportType.REALM):
            raise RemoteDiameterError("overload report incomplete")
        name = answer.text(_ORIGIN_HOST if kind == ReportType.HOST else _ORIGIN_REALM)
        if not name:
            raise RemoteDiameterError("overload report of nobody")
        reduction = _default(_REDUCTION.number(report), 0)
        validity_s = _default(_VALIDITY_DURATION.number(report), _DEFAULT_VALIDITY_S)
        if reduction > 100:
            # §7.7: values above 100 are ignored
            return False
        if validity_s > _MAX_VALIDITY_S:
            validity_s = _DEFAULT_VALIDITY_S
        key = (ReportType(kind), answer.application_id, name.lower())
        known = self.states.get(key)
        if known is not None and now < known.until and sequence <= known.sequence:
            return False
        if validity_s == 0:
            return self.states.pop(key, None) is not None
        debt = known.debt if known is not None else 0
        self.states[key] = _State(sequence, reduction, now + validity_s, debt)
        self.states.move_to_end(key)
        if len(self.states) > self._max_states:
            self.states.popitem(last=False)
        return True

    def throttles_host(self, application_id: int, host: str, *, now: float) -> bool:
        """True when this request must not go to that host. Counts as one request: ask once for each."""
        return self._throttles((ReportType.HOST, application_id, host.lower()), now)

    def throttles_realm(self, application_id: int, realm: str, *, now: float) -> bool:
        """True when this request must not go into that realm. Counts as one request: ask once for each."""
        return self._throttles((ReportType.REALM, application_id, realm.lower()), now)

    def reductions(self, *, now: float) -> dict[str, int]:
        """Percentages in force by host or realm, for the operator."""
        return {name: state.reduction for (_, _, name), state in self.states.items() if now < state.until}

    def _throttles(self, key: tuple[ReportType, int, str], now: float) -> bool:
        state = self.states.get(key)
        if state is None:
            return False
        if now >= state.until:
            del self.states[key]
            return False
        state.debt += state.reduction
        if state.debt < 100:
            return False
        state.debt -= 100
        return True


def _default(value: int | None, default: int) -> int:
    return default if value is None else value


def report_avps(
    *, sequence: int, kind: ReportType, reduction: int | None = None, validity_s: int | None = None
) -> list[Avp]:
    """OC-Supported-Features and OC-OLR as a reporting node sends them."""
    members: list[tuple[AvpDefinition, int | None]] = [
        (_SEQUENCE_NUMBER, sequence),
        (_REPORT_TYPE, kind),
        (_REDUCTION, reduction),
        (_VALIDITY_DURATION, validity_s),
    ]
    return [SUPPORTED_FEATURES, OC_OLR.avp([definition.optional(value) for definition, value in members])]
