"""P-Access-Network-Info (RFC 7315 §4.4, TS 24.229 §7.2A.4): by what access a user came, and where that is."""

from __future__ import annotations

from typing import Final

import attrs

from ims_as.isc.params import MAX_VALUES, param_value, read_params_untrusted
from ims_as.sip.grammar import Params, find_param, printable, split_list
from ims_as.sip.message import Message

__all__ = ["AccessNetwork", "read_access_networks_untrusted"]

_PLACES: Final = (
    "utran-cell-id-3gpp",
    "cgi-3gpp",
    "utran-sai-3gpp",
    "ci-3gpp2",
    "i-wlan-node-id",
    "dsl-location",
    "fiber-location",
    "eth-location",
)


@attrs.frozen(slots=True)
class AccessNetwork:
    """One access; what the network says of it is worth more than what the phone says."""

    access_type: str
    """``3GPP-E-UTRAN-FDD``, ``IEEE-802.11``, ``GSTN`` …, as spelt."""
    is_network_provided: bool
    params: Params = ()

    @property
    def place(self) -> str | None:
        """Cell or line, as the access names it; personal data."""
        for name in _PLACES:
            value = find_param(self.params, name)
            if value:
                return printable(param_value(value))
        return None


def read_access_networks_untrusted(message: Message) -> tuple[AccessNetwork, ...]:
    """The accesses, those that the network vouches for (``np``) first."""
    found = []
    for line in message.headers.get_all("P-Access-Network-Info")[:MAX_VALUES]:
        for value in split_list(line)[:MAX_VALUES]:
            access_type, _, rest = value.partition(";")
            params = read_params_untrusted(rest)
            is_provided = find_param(params, "np") is not None or find_param(params, "network-provided") is not None
            found.append(AccessNetwork(printable(access_type.strip(" \t")), is_provided, params))
    return tuple(sorted(found, key=lambda each: not each.is_network_provided))
