"""The media plane as the configuration wants it: workers of our own, or of other machines; TLS between the two."""

from __future__ import annotations

import ssl

from ims_as.config import MediaConfig, MediaControlConfig, MediaMode
from ims_as.media_pool import MediaPool, OnLost
from ims_as.remote_workers import RemoteWorkers
from ims_as.transport.tls import TlsContexts

__all__ = ["build_media_pool", "client_context", "server_contexts"]


def build_media_pool(media: MediaConfig, *, on_lost: OnLost) -> MediaPool:
    """Raises TlsSetupError."""
    if media.mode is MediaMode.REMOTE:
        name, _, port = (media.discover or "").rpartition(":")
        source = RemoteWorkers(
            name.strip("[]"), int(port), connections=media.workers, tls=client_context(media.control)
        )
        return MediaPool(source, max_load=media.max_load, on_lost=on_lost)
    return MediaPool.of_processes(
        workers=media.workers,
        address=media.address,
        ports=(media.ports.first, media.ports.last),
        port_rest_s=media.port_rest_s,
        dscp=media.dscp,
        standby=media.standby,
        max_load=media.max_load,
        on_lost=on_lost,
    )


def client_context(control: MediaControlConfig) -> ssl.SSLContext | None:
    """For a signalling node; the host's certificate must name what ``media.discover`` names.  Raises TlsSetupError."""
    if control.tls is None:
        return None
    context = TlsContexts(control.tls.options()).client
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = True
    return context


def server_contexts(control: MediaControlConfig) -> TlsContexts | None:
    """For a media host.  Raises TlsSetupError."""
    if control.tls is None:
        return None
    contexts = TlsContexts(control.tls.options())
    contexts.server.minimum_version = ssl.TLSVersion.TLSv1_3
    contexts.server.verify_mode = ssl.CERT_REQUIRED
    return contexts
