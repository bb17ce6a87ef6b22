"""What becomes of a call by the operator's rules (``routing`` in the configuration)."""

from __future__ import annotations

from ims_as.call.record import CallRecord
from ims_as.config import Config
from ims_as.config_model import Role, RoutingRule
from ims_as.isc.features import read_services_untrusted
from ims_as.isc.served_user import ServedUser
from ims_as.sip.message import Request

__all__ = ["find_rule", "role_of"]


def find_rule(config: Config, request: Request, served: ServedUser, record: CallRecord) -> RoutingRule | None:
    """The first rule that matches the call."""
    fields = {
        "request_uri": request.uri,
        "served_user": served.uri,
        "from": record.from_uri,
        "to": request.to.uri_text,
        "session_case": record.session_case,
        "service": ", ".join(read_services_untrusted(request)),
    }
    return next((rule for rule in config.routing if rule.matches(fields)), None)


def role_of(config: Config, request: Request, served: ServedUser, record: CallRecord) -> Role:
    """What we are to the call; with no rule an agent answers it."""
    if all(rule.role is Role.AGENT for rule in config.routing):
        return Role.AGENT  # which agent is asked later, when the profile is known
    rule = find_rule(config, request, served, record)
    return Role.AGENT if rule is None else rule.role
