"""The walls of docs/architecture.md: who may import whom, and which modules must stay free of I/O and clocks."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("conformance", "diameter", "ifc", "ims_as", "media")
MAY_IMPORT = {
    "ifc": {"ifc"},
    "diameter": {"diameter"},
    "media": {"media"},
    "ims_as": {"diameter", "ifc", "ims_as", "media"},
    "conformance": {"conformance", "diameter", "ifc", "ims_as", "media"},
}
LAB_MAY_USE = ("ims_as.sip", "ims_as.transport")
"""Of ims_as, what the lab plays the network's side with; the server itself is a black box to it."""

IMPURE = {"asyncio", "random", "secrets", "select", "socket", "ssl", "subprocess", "threading", "time", "trio"}
SANS_IO = ["ims_as/sip/*.py", "ims_as/isc/*.py", "ifc/*.py", "media/engines/base.py", "media/engines/ims_as_v1.py"]
SANS_IO += ["ims_as/defence/*.py", "ims_as/oss/alarm*.py", "ims_as/oss/hss_watch.py"]
SANS_IO += [f"diameter/{name}.py" for name in ("avp", "framing", "message", "peer", "pending", "routing", "watchdog")]
SANS_IO += [f"diameter/{name}.py" for name in ("backoff", "host_memory", "overload", "redirect", "selection")]
SANS_IO += [f"media/{name}.py" for name in ("conceal", "dtmf", "g711", "order", "playout", "resample", "rtp", "vad")]
SANS_IO += ["media/codecs/*.py", "media/reception.py"]
SANS_IO += [f"media/rtcp{name}.py" for name in ("", "_session", "_xr")]
SANS_IO += [f"media/{name}.py" for name in ("tones",)]
SANS_IO += [f"ims_as/call/{name}.py" for name in ("admission", "bypass", "engine_health", "failure", "session_data")]
SANS_IO += [
    f"ims_as/call/{name}.py"
    for name in ("digit_merger", "dtmf_info", "media_description", "sdp_relay", "target_policy")
]
_SH = ("cache", "data_reference", "messages", "notifications", "profile", "repository", "results", "sh_data*")
SANS_IO += [f"diameter/sh/{name}.py" for name in (*_SH, "subscriptions", "userdata")]


def modules(package: str) -> Iterator[Path]:
    yield from sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports at run time."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("package", PACKAGES)
def test_import_directions(package: str):
    for path in modules(package):
        ours = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
        assert ours <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {sorted(ours)}"


def test_the_lab_treats_the_server_as_a_black_box():
    for path in modules("conformance"):
        for name in imported(path):
            if name.split(".")[0] == "ims_as":
                assert name.startswith(LAB_MAY_USE), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("pattern", SANS_IO)
def test_protocol_logic_is_sans_io(pattern: str):
    paths = sorted(ROOT.glob(pattern))
    assert paths, pattern
    for path in paths:
        impure = {name.split(".")[0] for name in imported(path)} & IMPURE
        assert not impure, f"{path.relative_to(ROOT)} imports {sorted(impure)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is_and_stays_small(package: str):
    for path in modules(package):
        text = path.read_text()
        if not text.strip():
            assert path.name == "__init__.py"
            continue
        assert ast.get_docstring(ast.parse(text)), f"{path.relative_to(ROOT)} has no docstring"
        assert text.count("\n") <= 550, f"{path.relative_to(ROOT)} has {text.count(chr(10))} lines"
