"""Rules about server names: whether the criteria bring requests to us."""

from __future__ import annotations

from collections.abc import Iterator

from ifc.model import InitialFilterCriteria
from ims_as.ifc_tool.findings import Finding, Severity, found
from ims_as.ifc_tool.reading import Criteria
from ims_as.isc.server_names import other_server_names

__all__ = ["is_ours", "server_findings"]


def _host(uri: str) -> str:
    hostport = uri.partition(":")[2].partition(";")[0].rpartition("@")[2].lower()
    return hostport.partition("]")[0] + "]" if hostport.startswith("[") else hostport.partition(":")[0]


def is_ours(criterion: InitialFilterCriteria, identity: str | None, own_hosts: frozenset[str]) -> bool:
    """By host; without an identity every server may be ours."""
    return identity is None or _host(criterion.application_server.server_name) in {_host(identity), *own_hosts}


def server_findings(criteria: Criteria, identity: str, own_hosts: frozenset[str]) -> Iterator[Finding]:
    has_own = any(is_ours(criterion, identity, own_hosts) for criterion in criteria)
    for criterion in criteria:
        name = criterion.application_server.server_name
        if not is_ours(criterion, identity, own_hosts):
            # beside criteria of ours, those of other application servers are in their place
            severity = Severity.INFO if has_own else None
            yield found("foreign-server", criterion.line, f"ServerName {name} is not {identity}", severity=severity)
        elif name not in (identity, *other_server_names(identity)):
            text = f"ServerName {name} is ours, but not spelled {identity}"
            yield found("server-name-spelling", criterion.line, text)
