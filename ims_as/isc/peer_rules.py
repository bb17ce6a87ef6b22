"""Header normalisation for peers that write SIP in their own way (configuration ``sip.peers``).

A peer is the first entry whose network holds its address; its preset's rules come first, then its own, each seeing what
the one before has left. Requests only. Incoming ones are changed before anything looks at them (the trace keeps what
was on the wire), outgoing ones last, when the next hop's address is known.

What identifies a message or routes it back (Via, From, To, Call-ID, CSeq, Max-Forwards, Route, Record-Route, Contact,
Content-Length) is out of reach: the peer must find its own values in our answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from ims_as.isc.history_info import history_from_diversions
from ims_as.isc.identity import Identity
from ims_as.isc.numbers import NumberFormat
from ims_as.isc.params import read_addresses_untrusted
from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import TOKEN_RE, split_list
from ims_as.sip.header_types import NameAddr, parse_name_addr
from ims_as.sip.headers import header_key
from ims_as.sip.message import Request

if TYPE_CHECKING:
    from ims_as.config_model import PeerConfig, PeerRule

__all__ = ["PROTECTED_HEADERS", "PeerRules", "rule_problems"]

PROTECTED_HEADERS: Final = frozenset(
    {
        "via", "from", "to", "call-id", "cseq", "max-forwards", "route", "record-route", "contact", "content-length",
    }
)  # fmt: skip
NUMBER_HEADERS: Final = (
    "P-Asserted-Identity",
    "P-Preferred-Identity",
    "Remote-Party-ID",
    "P-Called-Party-ID",
    "P-Served-User",
    "History-Info",
    "Diversion",
)
"""Where the rule ``numbers`` looks, besides the Request-URI."""
_MAX_KNOWN_HOSTS: Final = 4096

Edit = Callable[[Request], None]


# ---------------------------------------------------------------- rules


def _set(rule: PeerRule) -> Edit:
    header, value = rule.header or "", rule.value or ""
    return lambda request: request.headers.set(header, value)


def _remove(rule: PeerRule) -> Edit:
    header = rule.header or ""

    def edit(request: Request) -> None:
        if header in request.headers:
            request.headers.remove(header)

    return edit


def _rename(rule: PeerRule) -> Edit:
    header, to = rule.header or "", rule.to or ""

    def edit(request: Request) -> None:
        values = request.headers.get_all(header)
        if values:
            request.headers.remove(header)
            for value in values:
                request.headers.add(to, value)

    return edit


def _numbers(rule: PeerRule) -> Edit:
    form = NumberFormat(
        rule.international_prefix or "", rule.national_prefix or "", rule.country or "", rule.user_phone
    )

    def edit(request: Request) -> None:
        request.uri = form.uri(request.uri)
        for name in NUMBER_HEADERS:
            if name in request.headers:
                lines = request.headers.get_all(name)
                changed = [_with_numbers(line, form) for line in lines]
                if changed != lines:
                    request.headers.set_all(name, changed)

    return edit


def _with_numbers(line: str, form: NumberFormat) -> str:
    values = split_list(line)
    changed = [_with_number(value, form) for value in values]
    return line if changed == values else ", ".join(changed)


def _with_number(value: str, form: NumberFormat) -> str:
    try:
        written = parse_name_addr(value).uri_text
    except SipParseError:
        return value
    uri = form.uri(written)
    if uri == written:
        return value
    if f"<{written}>" in value:
        return value.replace(f"<{written}>", f"<{uri}>", 1)
    return value.replace(written, f"<{uri}>", 1)


def _assert_from(name: str) -> Callable[[PeerRule], Edit]:
    """A rule that takes the asserted identity from another header, where there is none."""

    def make(_: PeerRule) -> Edit:
        def edit(request: Request) -> None:
            if "P-Asserted-Identity" in request.headers:
                return
            addresses = [each for each in read_addresses_untrusted(request, name) if _is_of_caller(each)]
            if not addresses:
                return
            first = addresses[0]
            request.headers.add("P-Asserted-Identity", str(Identity(first.uri_text, first.display_name)))
            if (first.param("privacy") or "").lower() in ("full", "uri", "name"):
                request.headers.add("Privacy", "id")

        return edit

    return make


def _is_of_caller(address: NameAddr) -> bool:
    """Not the called party's (Remote-Party-ID), and not the stand-in of somebody who wants to be nobody."""
    return (address.param("party") or "calling").lower() == "calling" and ".invalid" not in address.uri_text.lower()


def _diversion_to_history(_: PeerRule) -> Edit:
    def edit(request: Request) -> None:
        if "Diversion" not in request.headers or "History-Info" in request.headers:
            return
        values = history_from_diversions(request)
        if values:
            request.headers.remove("Diversion")
            request.headers.set_all("History-Info", values)

    return edit


def _one_served_user(_: PeerRule) -> Edit:
    def edit(request: Request) -> None:
        values = request.headers.get_list("P-Served-User")
        if len(values) > 1:
            request.headers.set("P-Served-User", values[0])

    return edit


def _drop_unknown_require(supported: frozenset[str]) -> Callable[[PeerRule], Edit]:
    def make(_: PeerRule) -> Edit:
        def edit(request: Request) -> None:
            tags = request.headers.get_list("Require")
            known = [tag for tag in tags if tag.lower() in supported]
            if known:
                request.headers.set("Require", ", ".join(known))
            elif tags:
                request.headers.remove("Require")

        return edit

    return make


_MAKERS: Final[dict[str, Callable[[PeerRule], Edit]]] = {
    "set": _set,
    "remove": _remove,
    "rename": _rename,
    "numbers": _numbers,
    "preferred-to-asserted": _assert_from("P-Preferred-Identity"),
    "remote-party-to-asserted": _assert_from("Remote-Party-ID"),
    "from-to-asserted": _assert_from("From"),
    "diversion-to-history": _diversion_to_history,
    "one-served-user": _one_served_user,
}
_IN_DIALOGS: Final = frozenset({"set", "remove", "rename", "drop-unknown-require"})
"""The others are about who calls whom, which is settled when there is a dialog."""
_NEEDS: Final = {"set": ("header", "value"), "remove": ("header",), "rename": ("header", "to")}


def rule_problems(rule: PeerRule) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it) of a rule in the configuration."""
    needed = _NEEDS.get(rule.do, ())
    for field in ("header", "value", "to"):
        value = getattr(rule, field)
        if field in needed and not value:
            yield field, f"is needed by {rule.do}"
        elif field not in needed and value is not None:
            yield field, f"means nothing to {rule.do}"
    for field in ("header", "to"):
        name = getattr(rule, field)
        if name is not None and TOKEN_RE.fullmatch(name) is None:
            yield field, f"not the name of a header: {name!r}"
        elif name is not None and header_key(name) in PROTECTED_HEADERS:
            yield field, f"{name} identifies or routes the message and cannot be changed"
    if rule.value is not None and any(char in rule.value for char in "\r\n\0"):
        yield "value", "a header has one line"
    for field in ("international_prefix", "national_prefix", "country"):
        text = getattr(rule, field)
        if text and not (text.isascii() and text.isdigit() and len(text) <= 5):
            yield field, f"expected a few digits, not {text!r}"
    if rule.national_prefix and not rule.country:
        yield "country", "is needed with national_prefix"


# ---------------------------------------------------------------- peers


class _Compiled:
    """The rules of one peer and direction."""

    __slots__ = ("_edits",)

    def __init__(self, rules: Iterable[PeerRule], supported: frozenset[str]) -> None:
        makers = _MAKERS | {"drop-unknown-require": _drop_unknown_require(supported)}
        self._edits = tuple(
            (frozenset(rule.methods), rule.do in _IN_DIALOGS, rule.do == "numbers", makers[rule.do](rule))
            for rule in rules
        )

    def __bool__(self) -> bool:
        return bool(self._edits)

    def apply(self, request: Request) -> None:
        method = request.method
        if method in ("ACK", "CANCEL"):
            # they must go on matching their INVITE (RFC 3261 §17.2.3 for clients of RFC 2543)
            for methods, _, is_numbers, edit in self._edits:
                if is_numbers and (not methods or "INVITE" in methods):
                    edit(request)
            return
        is_initial = request.to_tag is None
        for methods, is_for_dialogs, _, edit in self._edits:
            if (not methods or method in methods) and (is_initial or is_for_dialogs):
                edit(request)


class PeerRules:
    """The rules of all peers: what `EndpointCore.normaliser` is.

    Args:
        presets: rules by name.
        supported: option tags that `drop-unknown-require` leaves.
    """

    def __init__(
        self, peers: Sequence[PeerConfig], *, presets: dict[str, tuple[PeerRule, ...]], supported: Iterable[str] = ()
    ) -> None:
        tags = frozenset(tag.lower() for tag in supported)
        self._peers = []
        for peer in peers:
            rules = (*presets.get(peer.preset or "", ()), *peer.rules)
            incoming = _Compiled((rule for rule in rules if rule.direction in ("in", "both")), tags)
            outgoing = _Compiled((rule for rule in rules if rule.direction in ("out", "both")), tags)
            self._peers.append((peer.match, incoming, outgoing))
        self._none = (_Compiled((), tags), _Compiled((), tags))
        self._known: dict[str, tuple[_Compiled, _Compiled]] = {}

    def incoming(self, request: Request, host: str) -> None:
        """Normalise a request that came from that address, in place."""
        rules = self._rules_of(host)[0]
        if rules:
            rules.apply(request)

    def outgoing(self, request: Request, host: str) -> None:
        """Normalise a request that goes to that address, in place; doing it twice changes nothing more."""
        rules = self._rules_of(host)[1]
        if rules:
            rules.apply(request)

    def _rules_of(self, host: str) -> tuple[_Compiled, _Compiled]:
        found = self._known.get(host)
        if found is None:
            if len(self._known) >= _MAX_KNOWN_HOSTS:
                self._known.clear()
            found = self._known[host] = self._find(host)
        return found

    def _find(self, host: str) -> tuple[_Compiled, _Compiled]:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return self._none
        for network, incoming, outgoing in self._peers:
            if address in network:
                return incoming, outgoing
        return self._none
