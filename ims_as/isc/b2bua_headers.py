"""The headers of a routeing B2BUA that stays out of the conversation: the header table, and what belongs to the
mechanisms that both ends run with each other through us (100rel, preconditions, session timers, UPDATE, REFER …).

`header_policy` drops those of the second kind, for a B2BUA that is itself the end of each dialog promises only its own.
Here neither side talks to us: what one can do is told to the other, as far as it works through two dialogs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ims_as.isc.charging import read_charging_vector_untrusted
from ims_as.isc.header_policy import HeaderPolicy
from ims_as.sip.grammar import split_list
from ims_as.sip.headers import header_key
from ims_as.sip.message import Message, Request, Response

__all__ = ["END_TO_END_TAGS", "RELAYED_METHODS", "CoupledHeaders", "unsupported_tags"]

Header = tuple[str, str]

END_TO_END_TAGS: Final = frozenset(
    {
        "100rel", "199", "answermode", "early-session", "histinfo", "norefersub", "precondition", "replaces",
        "resource-priority", "timer",
    }
)  # fmt: skip
"""Option tags of what works through us; `gruu`, `outbound`, `path` and others are about a hop or an address."""
RELAYED_METHODS: Final = frozenset(
    {"INVITE", "ACK", "CANCEL", "BYE", "PRACK", "UPDATE", "INFO", "MESSAGE", "OPTIONS", "REFER", "NOTIFY", "SUBSCRIBE"}
)

_BODY: Final = frozenset(
    {"content-type", "content-encoding", "content-language", "content-disposition", "mime-version"}
)
_CAPABILITIES: Final = frozenset({"accept", "accept-encoding", "allow-events", "recv-info", "info-package"})
_FILTERED: Final = frozenset({"allow", "supported", "require"})
_REQUEST: Final = _BODY | _CAPABILITIES | frozenset(
    {"session-expires", "min-se", "refer-to", "refer-sub", "event", "subscription-state", "expires"}
)  # fmt: skip
_RESPONSE: Final = _BODY | _CAPABILITIES | frozenset(
    {"unsupported", "session-expires", "min-se", "rseq", "refer-sub", "expires", "min-expires"}
)  # fmt: skip


def unsupported_tags(request: Request) -> list[str]:
    """Option tags in Require or Proxy-Require that do not work through us."""
    wanted = [*request.headers.get_list("Require"), *request.headers.get_list("Proxy-Require")]
    return [tag for tag in wanted if tag.lower() not in END_TO_END_TAGS]


class CoupledHeaders:
    """What goes from one dialog's message to the other's, besides what each dialog writes itself."""

    def __init__(self, policy: HeaderPolicy, *, passes_refer: bool) -> None:
        self._policy = policy
        self.passes_refer = passes_refer

    def for_request(self, request: Request) -> list[Header]:
        """Of a request, initial or inside the dialog; RAck and Replaces are the coupling's to translate."""
        return [*self._policy.copy_for_b2bua(request), *self._mechanisms(request, _REQUEST)]

    def for_response(self, request: Request, response: Response) -> list[Header]:
        """Of the response that comes back to `request`."""
        headers = [*self._policy.copy_response_for_b2bua(response), *self._mechanisms(response, _RESPONSE)]
        vector = read_charging_vector_untrusted(request)
        if vector is not None and response.status > 100:
            headers.append(("P-Charging-Vector", str(vector.for_response(self._policy.own_ioi))))
        status = response.status
        if 300 <= status < 400 or status == 485:
            # elsewhere the Contact is the dialog's own: these name whom to try
            headers += [("Contact", value) for value in response.headers.get_all("Contact")]
        if status != 503 and (request.to_tag is not None or status in (404, 413, 480, 486, 600, 603)):
            headers += [("Retry-After", value) for value in response.headers.get_all("Retry-After")]
        return headers

    def _mechanisms(self, message: Message, names: frozenset[str]) -> Iterable[Header]:
        for name, value in message.headers.items():
            key = header_key(name)
            if key in names:
                yield name, value
            elif key in _FILTERED and (kept := self._filter(key, value)):
                yield name, kept

    def _filter(self, key: str, value: str) -> str:
        values = split_list(value)
        if key == "allow":
            refused = () if self.passes_refer else ("REFER",)
            return ", ".join(each for each in values if each in RELAYED_METHODS and each not in refused)
        return ", ".join(each for each in values if each.lower() in END_TO_END_TAGS)
