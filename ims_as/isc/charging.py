"""P-Charging-Vector and P-Charging-Function-Addresses (RFC 7315 §4.5, §4.6; TS 24.229 §4.5, §5.7.1.2).

The ICID is one for the whole call: it is kept on every leg and in every answer. IOIs are of the hop: on ISC they are of
type 3, each side puts its own (``orig-ioi`` in requests, ``term-ioi`` in responses) and the answering side gives the
``orig-ioi`` back. Their values are the operators' and are never looked into.
"""

from __future__ import annotations

import attrs

from ims_as.isc.params import param_value, read_params_untrusted
from ims_as.sip.grammar import Params, find_param, format_params, quote
from ims_as.sip.message import Message

__all__ = [
    "ChargingAddresses",
    "ChargingVector",
    "new_charging_vector",
    "read_charging_addresses_untrusted",
    "read_charging_vector_untrusted",
]


@attrs.frozen(slots=True)
class ChargingVector:
    """One P-Charging-Vector; the parameters as spelt."""

    params: Params

    @property
    def icid(self) -> str:
        """IMS Charging Identifier, "" where the peer forgot it."""
        return param_value(find_param(self.params, "icid-value"))

    @property
    def orig_ioi(self) -> str | None:
        return self._text("orig-ioi")

    @property
    def term_ioi(self) -> str | None:
        return self._text("term-ioi")

    @property
    def generated_at(self) -> str | None:
        """Host that made the ICID."""
        return self._text("icid-generated-at")

    def _text(self, name: str) -> str | None:
        value = find_param(self.params, name)
        return None if value is None else param_value(value)

    def __str__(self) -> str:
        return format_params(self.params)[1:]

    def for_response(self, own_ioi: str) -> ChargingVector:
        """What our response to the request carries: its icid and orig-ioi, and our term-ioi; nothing of its access."""
        return ChargingVector(
            (*_only(self.params, "icid-value", "icid-generated-at", "orig-ioi"), _ioi("term", own_ioi))
        )

    def for_request(self, own_ioi: str) -> ChargingVector:
        """What a request that continues the call carries: everything of the call, of the IOIs only our orig-ioi."""
        kept = tuple(each for each in self.params if each[0].lower() not in ("orig-ioi", "term-ioi", "transit-ioi"))
        return ChargingVector((*kept, _ioi("orig", own_ioi)))

    def in_dialog(self, own_ioi: str) -> ChargingVector:
        """What our later requests in the dialog of this call carry (TS 24.229 §5.7.2): its icid, our orig-ioi."""
        return ChargingVector((*_only(self.params, "icid-value", "icid-generated-at"), _ioi("orig", own_ioi)))


def _only(params: Params, *names: str) -> Params:
    return tuple(each for each in params if each[0].lower() in names)


def _ioi(side: str, value: str) -> tuple[str, str]:
    return f"{side}-ioi", quote(value)


def read_charging_vector_untrusted(message: Message) -> ChargingVector | None:
    """The message's P-Charging-Vector; None where there is none, or one without an icid-value."""
    text = message.headers.get("P-Charging-Vector")
    if text is None:
        return None
    vector = ChargingVector(read_params_untrusted(text))
    return vector if vector.icid else None


def new_charging_vector(icid: str, *, generated_at: str, own_ioi: str) -> ChargingVector:
    """For a call that we begin.

    Args:
        icid: globally unique text.
        generated_at: our host.
    """
    params = (("icid-value", quote(icid)), ("icid-generated-at", generated_at), _ioi("orig", own_ioi))
    return ChargingVector(params)


@attrs.frozen(slots=True)
class ChargingAddresses:
    """P-Charging-Function-Addresses: where CDRs (ccf, Rf) and credit requests (ecf, Ro) go, preferred first."""

    ccf: tuple[str, ...]
    ecf: tuple[str, ...]


def read_charging_addresses_untrusted(message: Message) -> ChargingAddresses | None:
    """The addresses that the S-CSCF gave for this call; None where it gave none."""
    ccf: list[str] = []
    ecf: list[str] = []
    for value in message.headers.get_list("P-Charging-Function-Addresses"):
        for name, text in read_params_untrusted(value):
            # a second address is another ccf= in RFC 7315, ccf-2= in some stacks
            target = {"ccf": ccf, "ecf": ecf}.get(name.lower().partition("-")[0])
            address = param_value(text)
            if target is not None and address:
                target.append(address)
    return ChargingAddresses(tuple(ccf), tuple(ecf)) if ccf or ecf else None
