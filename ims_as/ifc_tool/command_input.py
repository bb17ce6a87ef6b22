"""What the commands ``ims-as ifc …`` have in common: files to read, text to print."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ims_as.cli_options import EXIT_USAGE, fail

if TYPE_CHECKING:
    from ifc.shared import SharedSets
    from ims_as.config import Config
    from ims_as.ifc_tool.reading import Document, InitialRequest

__all__ = [
    "FILE",
    "about_request",
    "json_option",
    "name_of",
    "own_hosts_of",
    "printable",
    "read_document",
    "read_file",
    "read_shared",
    "request_options",
    "shared_option",
]

MAX_FILE_BYTES = 1024 * 1024
"""Four times what any of the readers takes: they say what is too large for them."""

_CASES = ("originating-registered", "terminating-registered", "terminating-unregistered", "originating-unregistered",
          "originating-cdiv")  # fmt: skip

FILE = click.File("rb")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

C = TypeVar("C", bound=Callable[..., Any])


def request_options(command: C) -> C:
    """Adds --session-case, --registration-type and --user."""
    for option in (
        click.option("--user", metavar="IMPU", help="Served user, for a subscription with several profiles."),
        click.option(
            "--registration-type",
            type=click.Choice(["initial", "re", "de"]),
            help="Of a REGISTER; default: de with Expires 0, else initial.",
        ),
        click.option("--session-case", type=click.Choice(_CASES), help="Default: as P-Served-User says."),
    ):
        command = option(command)
    return command


def name_of(file: Any) -> str:
    """As messages name it."""
    return str(getattr(file, "name", "<stdin>"))


def read_file(file: Any, limit: int = MAX_FILE_BYTES, *, begun: bytes = b"") -> bytes:
    """All of it, after what was already read; ends the program where that is not possible.  limit: in bytes."""
    try:
        read: bytes = begun + file.read(limit + 1 - len(begun))
    except OSError as error:
        fail(f"{name_of(file)}: {error.strerror}", EXIT_USAGE)
    if len(read) > limit:
        fail(f"{name_of(file)}: more than {limit} bytes", EXIT_USAGE)
    return read


def shared_option(command: C) -> C:
    """Adds --shared."""
    text = "Table of shared sets of the S-CSCF (<SharedIFCsSets>), to which SharedIFCSetID refers."
    return click.option("--shared", type=FILE, metavar="TABLE", help=text)(command)


def read_shared(file: Any) -> SharedSets | None:
    """The table, what is wrong in it to standard error; None without a file."""
    from ifc.parser import IfcError, parse_shared_sets_untrusted

    if file is None:
        return None
    try:
        parsed = parse_shared_sets_untrusted(read_file(file))
    except IfcError as error:
        fail(f"{name_of(file)}: {error}", EXIT_USAGE)
    for problem in parsed.problems:
        click.echo(f"{name_of(file)}: {problem}", err=True)
    return parsed.sets


def read_document(file: Any, shared: SharedSets | None = None) -> Document:
    """Criteria from XML, what is wrong in them to standard error; ends the program when there is nothing to use."""
    from ifc.parser import IfcError
    from ims_as.ifc_tool.reading import read_document_untrusted

    try:
        document = read_document_untrusted(read_file(file), shared)
    except IfcError as error:
        fail(f"{name_of(file)}: {error}", EXIT_USAGE)
    for problem in document.problems:
        click.echo(f"{name_of(file)}: {problem}", err=True)
    return document


def own_hosts_of(config: Config) -> frozenset[str]:
    """Addresses by which the configured server is reached, beside the host of its identity."""
    listed = [address.host for address in (*config.sip.listen, config.sip.advertise) if address is not None]
    return frozenset(f"[{host}]".lower() if ":" in host else host.lower() for host in listed)


def printable(text: str) -> str:
    """Control characters of a peer do not reach the terminal."""
    return "".join(char if char.isprintable() else "·" for char in text)


def about_request(name: str, request: InitialRequest) -> dict[str, Any]:
    """The request in every JSON document."""
    return {
        "message": name,
        "method": request.view.method,
        "request_uri": request.view.request_uri,
        "served_user": request.served_user,
        "session_case": None if request.session_case is None else request.session_case.name,
        "session_case_source": request.source,
    }
