"""Settings of a Diameter node."""

from __future__ import annotations

from attrs import field, frozen

from diameter.base_commands import SH_APPLICATION, Application
from diameter.connector import Listen
from diameter.peer_link import PeerConfig
from diameter.tls import ContextSource

__all__ = ["NodeConfig"]


@frozen(kw_only=True)
class NodeConfig:
    """One node.

    Attributes:
        origin_host: our DiameterIdentity; must stay the same over restarts (subscriptions hang on it).
        origin_realm: our realm.
        peers: peers to connect to, in order of preference.
        listen: addresses (host, port) to accept on; with another transport than TCP a `Listen`.
        tls: certificates, needed for peers and listeners over TLS.
        accept_from: Origin-Hosts that may connect besides those of `peers`; `.realm` stands for all hosts of a realm.
            Others get UNKNOWN_PEER. None: anybody may.
        product_name: announced in CER/CEA.
        vendor_id: IANA enterprise number, 0 for none (RFC 6733 §5.3.3).
        applications: what we announce and answer.
        source_host: local address of outgoing connections, None lets the system choose.
        wait_s: seconds for connecting, CEA and DPA each.
        reconnect_first_s, reconnect_max_s: Tc, first and longest.
        max_pending: unanswered requests at most.
        max_inbound: requests of peers under way at most; more are answered TOO_BUSY.
        follow_redirects: connect to hosts that a redirect names, if they are in our realm, in that of a peer or of the
            request, or in `redirect_hosts`. Peers that are connected anyway are always followed to.
        redirect_hosts: further hosts that may be connected to; `.realm` stands for all hosts of a realm.
        max_redirect_peers: such connections at most.
        redirect_idle_s: after which one without use is closed.
        overload_control: offer RFC 7683 in requests, and throttle as reports ask.
    """

    origin_host: str
    origin_realm: str
    peers: tuple[PeerConfig, ...] = ()
    listen: tuple[tuple[str, int] | Listen, ...] = ()
    tls: ContextSource | None = None
    accept_from: tuple[str, ...] | None = None
    product_name: str = "ims-as"
    vendor_id: int = 0
    applications: tuple[Application, ...] = field(default=(SH_APPLICATION,))
    source_host: str | None = None
    wait_s: float = 5.0
    reconnect_first_s: float = 0.2
    reconnect_max_s: float = 30.0
    max_pending: int = 10_000
    max_inbound: int = 2_000
    follow_redirects: bool = True
    redirect_hosts: tuple[str, ...] = ()
    max_redirect_peers: int = 16
    redirect_idle_s: float = 300.0
    overload_control: bool = True
