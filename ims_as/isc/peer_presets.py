"""Rules for well-known makes of peers: only what can be justified; the rest is for the peer's own ``rules``."""

from __future__ import annotations

from typing import Final

from ims_as.config_model import PeerRule

__all__ = ["PRESETS"]

# chan_sip with sendrpid=yes, mod_sofia by default (caller-id-type) and IOS by default write Remote-Party-ID, the draft
# that RFC 3325 replaced; the core knows P-Asserted-Identity alone
_REMOTE_PARTY: Final = PeerRule("remote-party-to-asserted")
# ISDN heritage: PBXs and gateways tell of call forwarding by Diversion (RFC 5806), the core by History-Info (RFC 7544)
_DIVERSION: Final = PeerRule("diversion-to-history")

PRESETS: Final[dict[str, tuple[PeerRule, ...]]] = {
    "kamailio": (
        # its S-CSCF adds P-Served-User once more when it goes on to the next application server after a failure
        PeerRule("one-served-user"),
    ),
    "asterisk": (
        _REMOTE_PARTY,
        # res_pjsip_diversion writes it unless send_diversion=no
        _DIVERSION,
    ),
    "freeswitch": (
        _REMOTE_PARTY,
        # a note from one FreeSWITCH to another, of no use behind it
        PeerRule("remove", header="X-FS-Support"),
    ),
    "cisco-cube": (
        _REMOTE_PARTY,
        _DIVERSION,
    ),
    # a back-to-back user agent that writes what its own header rules say: there is nothing that all of them do
    "oracle-sbc": (),
    "generic-pbx": (
        # in the order of their worth: what the PBX asserts in an older form, what it prefers, what it shows; a PBX
        # line without any asserted identity is common (SIPconnect leaves it to the provider), and the peer is trusted
        _REMOTE_PARTY,
        PeerRule("preferred-to-asserted"),
        PeerRule("from-to-asserted"),
        _DIVERSION,
        # dialled as on a telephone: 00 for +, dashes and dots, user=phone forgotten
        PeerRule("numbers", user_phone=True),
    ),
}
"""Name → rules, applied in this order before the peer's own."""
