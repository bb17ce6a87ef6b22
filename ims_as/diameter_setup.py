"""The Diameter node as the configuration describes it."""

from __future__ import annotations

import attrs

from diameter.node import Listen, NodeConfig, PeerConfig
from ims_as.config import DiameterConfig
from ims_as.transport.tls import TlsContexts

__all__ = ["build_node_config", "build_tls", "build_tool_config"]


def build_tls(config: DiameterConfig) -> TlsContexts | None:
    """Contexts for ``tls:`` peers and listeners.

    Raises:
        TlsSetupError: the files cannot be used.
    """
    return None if config.tls is None else TlsContexts(config.tls.options())


def build_node_config(config: DiameterConfig, tls: TlsContexts | None) -> NodeConfig:
    """Of the server."""
    peers = tuple(
        PeerConfig(each.address.host, each.address.port, each.address.transport, each.origin_host)
        for each in config.peers
    )
    listen = tuple(Listen(each.host, each.port, each.transport) for each in config.listen)
    return NodeConfig(
        origin_host=config.origin_host,
        origin_realm=config.origin_realm,
        peers=peers,
        listen=listen,
        tls=tls,
        source_host=config.source,
        accept_from=config.accept_from,
        overload_control=config.overload_control,
        follow_redirects=config.follow_redirects,
        redirect_hosts=config.redirect_hosts,
    )


def build_tool_config(
    config: DiameterConfig, tls: TlsContexts | None, *, origin_host: str, wait_s: float
) -> NodeConfig:
    """Of a short visit beside a running server: another identity, and it does not listen."""
    return attrs.evolve(build_node_config(config, tls), origin_host=origin_host, listen=(), wait_s=wait_s)
