"""What becomes of each SIP header, by what we are to the message: the one table.

``docs/headers.md`` is made from it (``python -m ims_as.isc.header_table > docs/headers.md``); `header_policy` applies
it. A header that is not in the table is unknown: `UNKNOWN` says what becomes of it.
"""

from __future__ import annotations

from typing import Final

import attrs

from ims_as.sip.headers import header_key

__all__ = ["COLUMNS", "DROP", "KEEP", "TABLE", "UNKNOWN", "HeaderRule", "as_markdown", "rule_for"]

KEEP: Final = "keep"
"""Byte for byte."""
DROP: Final = "drop"

REWRITES: Final = {
    "charging": "P-Charging-Vector with the same icid; our own `orig-ioi` in requests; in responses the received "
    "`orig-ioi` and our own `term-ioi`",
    "session": "Session-ID with our UUID, and the peer's as `remote`",
    "identity": "left out when Privacy hides the caller, else without `cpc` and `oli`",
    "no-cpc": "`cpc` and `oli` parameters taken out",
    "history": "without entries that ask for privacy; none at all under `Privacy: history` or `header`",
    "diversion": "without values that ask for privacy; none at all where Privacy hides caller or history",
    "no-psap": "left out when it says `psap-callback`",
}
"""Other words of the table."""


@attrs.frozen(slots=True)
class HeaderRule:
    """One row; each cell is `KEEP`, `DROP` or a key of `REWRITES`."""

    name: str
    b2bua: str
    """From a request to the request on the other side of a B2BUA."""
    reply: str
    """From the other side's response to ours, on a B2BUA."""
    proxy: str
    """On what we forward as a proxy."""
    answer: str
    """Because of the request's header, in our own response as a user agent."""
    untrusted: str
    """On what leaves the trust domain."""
    engine: str
    """To the AI engine, in ``headers`` of ``start``."""
    note: str


COLUMNS: Final = ("b2bua", "reply", "proxy", "answer", "untrusted", "engine")
UNKNOWN: Final = HeaderRule(
    "(any other)", KEEP, KEEP, KEEP, DROP, KEEP, DROP,
    "unknown `P-` headers are dropped towards the untrusted; engines get those that the agent's `engine_headers` names "
    "and the untrusted would get",
)  # fmt: skip


def _rows(
    names: str, b2bua: str, reply: str, proxy: str, answer: str, untrusted: str, engine: str, note: str
) -> list[HeaderRule]:
    return [HeaderRule(name, b2bua, reply, proxy, answer, untrusted, engine, note) for name in names.split()]


_K, _D = KEEP, DROP
# fmt: off
_ROWS: Final = [
    # the message's own: made anew by whoever sends it
    *_rows("Via Max-Forwards", _D, _D, _K, _D, _K, _D,
           "hop by hop (RFC 3261 §16.6, §18); a B2BUA counts Max-Forwards on, `HeaderPolicy.next_max_forwards`"),
    *_rows("From To", _D, _D, _K, _K, "no-cpc", _D,
           "written by the new dialog; engines get `from` and `to` in `start`"),
    *_rows("Call-ID CSeq", _D, _D, _K, _K, _K, _D, "of the dialog and transaction"),
    *_rows("Contact", _D, _D, _K, _D, _K, _D, "each dialog has its own; `isc/features.py` reads its feature tags"),
    *_rows("Route", _D, _D, _K, _D, _K, _D,
           "what is below our entry (the ODI) goes on byte for byte, `isc/routing.py`; our own entry is taken off"),
    *_rows("Record-Route", _D, _D, _K, _K, _K, _D, "of the dialog; copied into responses that make one"),
    *_rows("Content-Type Content-Length Content-Encoding Content-Language Content-Disposition MIME-Version",
           _D, _D, _K, _D, _K, _D, "belong to the body, which its sender writes"),
    *_rows("Timestamp", _D, _D, _K, _D, _K, _D, "RFC 3261 §8.2.6.1: only in 100"),
    *_rows("User-Agent Server", _D, _D, _K, _D, _K, _D, "each user agent says its own"),
    # capabilities: those of who sends the message
    *_rows("Allow Allow-Events Accept Accept-Encoding Supported Require Proxy-Require Unsupported Recv-Info "
           "Info-Package", _D, _D, _K, _D, _K, _D, "a B2BUA asks for and promises only what both its sides do"),
    *_rows("Session-Expires Min-SE RSeq RAck Replaces Join Target-Dialog Refer-To Refer-Sub Event Subscription-State "
           "Min-Expires Expires SIP-ETag SIP-If-Match", _D, _D, _K, _D, _K, _D,
           "of the dialog or subscription that they are in"),
    *_rows("Authorization Proxy-Authorization WWW-Authenticate Proxy-Authenticate Authentication-Info "
           "Proxy-Authentication-Info Security-Client Security-Server Security-Verify", _D, _D, _K, _D, _K, _D,
           "between two neighbours; a B2BUA cannot answer another's challenge"),
    *_rows("Path Service-Route P-Associated-URI P-Visited-Network-ID", _K, _K, _K, _D, _D, _D,
           "of registration (RFC 3327, RFC 3608, RFC 7315)"),
    # identity and privacy
    *_rows("P-Asserted-Identity", _K, _K, _K, _D, "identity", _D,
           "RFC 3325 §5; engines get it as `from`, `anonymous` where Privacy hides it. tel: stays tel:"),
    *_rows("P-Preferred-Identity P-Preferred-Service", _K, _D, _K, _D, _D, _D, "a user's wish to its first proxy"),
    *_rows("P-Served-User", _D, _D, _K, _D, _D, _D,
           "ISC only (RFC 5502, RFC 8498): consumed; the S-CSCF writes its own"),
    *_rows("P-Called-Party-ID", _K, _K, _K, _D, _K, _K, "RFC 7315 §4.2: the identity that was called"),
    *_rows("P-Profile-Key P-User-Database P-Private-Network-Indication Additional-Identity", _K, _K, _K, _D, _D, _D,
           "between network nodes"),
    *_rows("Privacy", _K, _K, _K, _D, _K, _D, "RFC 3323: kept inside; obeyed towards engines and the untrusted"),
    *_rows("Identity Identity-Info Date", _K, _K, _K, _D, _K, _D, "RFC 8224: the signature covers Date"),
    *_rows("Attestation-Info Origination-Id", _K, _K, _K, _D, _D, _D, "TS 24.229 §4.4: caller verification"),
    *_rows("Referred-By", _K, _D, _K, _D, "identity", _D, "RFC 3892: names a user"),
    *_rows("Reply-To Organization", _K, _K, _K, _D, "identity", _D, "may name a user"),
    # services
    *_rows("P-Asserted-Service", _K, _K, _K, _D, _D, _D, "RFC 6050 §4.2: the network's word"),
    *_rows("Accept-Contact Reject-Contact Request-Disposition", _K, _D, _K, _D, _K, _D, "RFC 3841"),
    *_rows("Feature-Caps", _K, _K, _K, _D, _D, _D, "RFC 6809"),
    *_rows("Accept-Language Subject User-to-User", _K, _K, _K, _D, _K, _K, "end to end; of use to an agent"),
    *_rows("Alert-Info Call-Info Error-Info Warning", _K, _K, _K, _D, _K, _D, "end to end"),
    *_rows("Retry-After", _D, _D, _K, _D, _K, _D, "of its sender: an S-CSCF would avoid us for another's load"),
    *_rows("Reason", _K, _K, _K, _D, _K, _K, "RFC 3326; in responses Q.850 alone (RFC 6432)"),
    *_rows("Priority", _K, _K, _K, _D, "no-psap", "no-psap", "RFC 3261 §20.26, RFC 7090"),
    *_rows("Resource-Priority Accept-Resource-Priority", _K, _K, _K, _D, _D, _D,
           "RFC 4412; a call with a known namespace is passed on and never limited"),
    *_rows("P-Early-Media", _K, _K, _K, _D, _D, _D, "RFC 5009: between trusted nodes; our own in 18x with early media"),
    *_rows("P-Answer-State Answer-Mode Priv-Answer-Mode Alert-Mode", _K, _K, _K, _D, _K, _D,
           "push to talk (RFC 4964, RFC 5373)"),
    # history and correlation
    *_rows("History-Info", _K, _K, _K, _D, "history", "history",
           "RFC 7044; an entry is added when the Request-URI changes"),
    *_rows("Diversion", _K, _K, _K, _D, "diversion", "diversion", "RFC 5806; read like History-Info (RFC 7544)"),
    *_rows("Session-ID", _K, _K, _K, "session", _K, _K, "RFC 7989: the same on all legs; ours where we are the end"),
    *_rows("P-Charging-Vector", "charging", _D, _K, "charging", _D, _D,
           "RFC 7315 §4.6; on ISC IOIs are of type 3; a B2BUA answers with its own"),
    *_rows("P-Charging-Function-Addresses", _K, _D, _K, _D, _D, _D, "RFC 7315 §4.5: inside the operator"),
    # access and place
    *_rows("P-Access-Network-Info Cellular-Network-Info", _K, _K, _K, _D, _D, _D, "RFC 7315 §4.4: where the user is"),
    *_rows("Geolocation Geolocation-Routing Geolocation-Error", _K, _K, _K, _D, _K, _D,
           "RFC 6442: the user's own word, passed through; not for engines"),
    *_rows("Response-Source Restoration-Info Relayed-Charge Priority-Share Service-Interact-Info",
           _K, _K, _K, _D, _D, _D,
           "TS 24.229 §7.2: between network nodes"),
]
# fmt: on

TABLE: Final[dict[str, HeaderRule]] = {header_key(rule.name): rule for rule in _ROWS}
"""By key: small letters, compact forms written out."""
_UNKNOWN_P: Final = attrs.evolve(UNKNOWN, untrusted=DROP)


def rule_for(name: str) -> HeaderRule:
    """The row of a header, whatever its spelling."""
    key = header_key(name)
    rule = TABLE.get(key)
    if rule is not None:
        return rule
    return _UNKNOWN_P if key.startswith("p-") else UNKNOWN


def as_markdown() -> str:
    """The table for people."""
    lines = [
        "# What becomes of each header",
        "",
        "Made from `ims_as/isc/header_table.py`; a test compares the two.",
        "",
        "- **b2bua**: from a request to the request on the other side of a B2BUA. **reply**: from the other side's "
        "response to ours.",
        "- **proxy**: what we forward as a proxy. **answer**: what our own response has because the request had it.",
        "- **untrusted**: what leaves the trust domain. **engine**: `headers` of the engine's `start` event.",
        "",
        "`keep` is byte for byte. The other words:",
        "",
        *(f"- `{name}`: {text}." for name, text in REWRITES.items()),
        "",
        "| header | b2bua | reply | proxy | answer | untrusted | engine | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rule in (*_ROWS, UNKNOWN):
        cells = " | ".join("–" if getattr(rule, column) == DROP else getattr(rule, column) for column in COLUMNS)
        lines.append(f"| {rule.name} | {cells} | {rule.note} |")
    lines += ["", "– is `drop`. For **answer**, `keep` means: copied by the rules of RFC 3261 §8.2.6."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
