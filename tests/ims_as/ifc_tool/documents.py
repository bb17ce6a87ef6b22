"""Small documents for the tests: criteria from a few words."""

from __future__ import annotations

from pathlib import Path

VECTORS = Path(__file__).parents[2] / "vectors"

IDENTITY = "sip:ai-as.example.net"

INVITE = "<Method>INVITE</Method>"
REGISTER = "<Method>REGISTER</Method>"
TERMINATING = "<SessionCase>1</SessionCase>"
SAFE = (
    (1, "<RequestURI>^(urn:)?service:sos</RequestURI>"),
    (1, "<SIPHeader><Header>^Priority$</Header><Content>psap-callback</Content></SIPHeader>"),
    (1, "<SIPHeader><Header>^Resource-Priority$</Header><Content>.*</Content></SIPHeader>"),
)
"""What keeps emergency and priority calls away, as negated triggers."""


def criterion(
    *conditions: str | tuple[int, str],
    priority: int = 1,
    server: str = IDENTITY,
    handling: int | None = 0,
    cnf: int = 1,
    groups: tuple[int, ...] | None = None,
) -> str:
    """Conditions are XML, or (negated, XML); one group each unless told."""
    spts = ""
    for index, each in enumerate(conditions):
        negated, condition = each if isinstance(each, tuple) else (0, each)
        group = index if groups is None else groups[index]
        spts += f"<SPT><ConditionNegated>{negated}</ConditionNegated><Group>{group}</Group>{condition}</SPT>\n"
    point = f"<TriggerPoint><ConditionTypeCNF>{cnf}</ConditionTypeCNF>{spts}</TriggerPoint>" if conditions else ""
    default = "" if handling is None else f"<DefaultHandling>{handling}</DefaultHandling>"
    server_xml = f"<ApplicationServer><ServerName>{server}</ServerName>{default}</ApplicationServer>"
    return f"<InitialFilterCriteria>\n<Priority>{priority}</Priority>{point}{server_xml}</InitialFilterCriteria>\n"


def ifcs(*criteria: str) -> bytes:
    return f"<IFCs>\n{''.join(criteria)}</IFCs>".encode()


def message(name: str) -> bytes:
    """A captured ISC message, by the number that its file name begins with."""
    (path,) = (VECTORS / "isc").glob(f"{name}-*.sip")
    return path.read_bytes()
