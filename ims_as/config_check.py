"""Checks of the configuration as a whole: what single values cannot know.

A *problem* makes the configuration unusable, a *warning* is worth a second look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from diameter.sctp import sctp_problem
from ims_as.call.codecs import CODEC_NAMES, missing_codecs, own_codecs
from ims_as.config_model import (
    MATCH_FIELDS,
    TRANSFER_TARGETS,
    Config,
    DiameterConfig,
    EngineConfig,
    LimitsConfig,
    MediaConfig,
    MediaMode,
    RecordingMode,
)
from ims_as.defence.policy_build import policy_problems, policy_warnings
from ims_as.errors import Problem
from ims_as.isc.peer_rules import rule_problems
from ims_as.transport.identity import is_ip_address, normal_identity
from ims_as.transport.tls import TlsContexts, TlsSetupError

__all__ = ["check_config"]

MAX_PATTERN_CHARS = 1000
CORE_GUARD_MS = 2000
"""Known cores give an AS with SESSION_CONTINUED 2 s before they go on without it."""

_SIP_URI = re.compile(r"sips?:(?:[^\s@<>\"]+@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?(?:;[^\s<>\"]*)?")
_TEL_URI = re.compile(r"tel:\+?[0-9A-Fa-f*#().-]+(?:;[^\s<>\"]*)?")


def _check_uris(config: Config) -> Iterator[tuple[str, str]]:
    if not _SIP_URI.fullmatch(config.identity):
        yield "identity", f"expected a SIP URI, not {config.identity!r}"
    if config.sip.core is not None and not _SIP_URI.fullmatch(config.sip.core):
        yield "sip.core", f"expected a SIP URI, not {config.sip.core!r}"
    for name, agent in config.agents.items():
        for field in ("allow", "identities"):
            for index, pattern in enumerate(getattr(agent.outbound, field)):
                if problem := _pattern_problem(pattern):
                    yield f"agents.{name}.outbound.{field}[{index}]", problem
        queue = agent.transfer.queue
        if queue is not None and not (_SIP_URI.fullmatch(queue) or _TEL_URI.fullmatch(queue)):
            yield f"agents.{name}.transfer.queue", f"expected a SIP or tel URI, not {queue!r}"
        for index, target in enumerate(agent.transfer.allow):
            if target in TRANSFER_TARGETS:
                continue
            path = f"agents.{name}.transfer.allow[{index}]"
            if ":" not in target and ".*" not in target:  # no URI can match: a misspelt word
                yield path, f"expected {', '.join(TRANSFER_TARGETS)}, or a pattern of URIs, not {target!r}"
            elif problem := _pattern_problem(target):
                yield path, problem
        if "queue" in agent.transfer.allow and queue is None:
            yield f"agents.{name}.transfer.queue", "is missing: transfer.allow names the queue"


def _engine_problem(engine: EngineConfig) -> str | None:
    try:
        url = urlsplit(engine.url)
        port = url.port
    except ValueError as error:
        return f"not a URL: {error}"
    if url.scheme not in ("ws", "wss") or not url.hostname or port == 0:
        return f"expected ws://host:port/ or wss://host:port/, not {engine.url!r}"
    if url.username is not None or url.password is not None:
        return "a URL must not carry a user name or password"
    return None


def _check_agents(config: Config) -> Iterator[tuple[str, str]]:
    if not config.agents:
        yield "agents", "there must be at least one"
    for name, agent in config.agents.items():
        if not agent.engines:
            yield f"agents.{name}.engines", "there must be at least one"
        for index, engine in enumerate(agent.engines):
            if problem := _engine_problem(engine):
                yield f"agents.{name}.engines[{index}].url", problem
        for place, clip in (("filler", agent.filler.clip), ("background", agent.background.clip)):
            if clip is not None and not clip.startswith("builtin:") and not Path(clip).is_file():
                yield f"agents.{name}.{place}.clip", f"no such file: {clip}"


def _check_recording(config: Config) -> Iterator[tuple[str, str]]:
    for name, agent in config.agents.items():
        recording, place = agent.recording, f"agents.{name}.recording"
        if recording.mode is RecordingMode.NEVER:
            continue
        if not recording.directory.is_absolute():
            yield f"{place}.directory", f"expected an absolute path, not {str(recording.directory)!r}"
        if recording.mode is RecordingMode.CONSENT and recording.prompt is None:
            yield f"{place}.prompt", "is missing: mode consent asks the caller by it"
        if recording.prompt is not None and not Path(recording.prompt).is_file():
            yield f"{place}.prompt", f"no such file: {recording.prompt}"
        if recording.consent_digit not in tuple("0123456789*#ABCD"):
            yield f"{place}.consent_digit", f"expected a key, not {recording.consent_digit!r}"


def _check_routing(config: Config) -> Iterator[tuple[str, str]]:
    for index, rule in enumerate(config.routing):
        if rule.agent not in config.agents:
            known = ", ".join(sorted(config.agents)) or "none"
            yield f"routing[{index}].agent", f"no agent is called {rule.agent!r} (there are: {known})"
        for field, pattern in rule.match.items():
            path = f"routing[{index}].match.{field}"
            if field not in MATCH_FIELDS:
                yield path, f"unknown field (known: {', '.join(MATCH_FIELDS)})"
            if problem := _pattern_problem(pattern):
                yield path, problem


def _pattern_problem(pattern: str) -> str | None:
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"longer than {MAX_PATTERN_CHARS} characters"
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    return None


def _check_peers(config: Config) -> Iterator[tuple[str, str]]:
    for index, peer in enumerate(config.sip.peers):
        for number, rule in enumerate(peer.rules):
            for field, problem in rule_problems(rule):
                yield f"sip.peers[{index}].rules[{number}].{field}", problem


def _check_transports(config: Config) -> Iterator[tuple[str, str]]:
    for index, address in enumerate(config.sip.listen):
        if address.transport == "tls" and config.sip.tls is None:
            yield f"sip.listen[{index}]", "needs sip.tls: a certificate"
    yield from _check_diameter(config.diameter)


def _check_diameter(diameter: DiameterConfig) -> Iterator[tuple[str, str]]:
    places = [(f"peers[{index}].address", peer.address) for index, peer in enumerate(diameter.peers)]
    places += [(f"listen[{index}]", address) for index, address in enumerate(diameter.listen)]
    for place, address in places:
        if address.transport == "tls" and diameter.tls is None:
            yield f"diameter.{place}", "needs diameter.tls: a certificate"
        if address.transport == "sctp" and (problem := sctp_problem()):
            yield f"diameter.{place}", problem
    for index, peer in enumerate(diameter.peers):
        if peer.origin_host is not None and not normal_identity(peer.origin_host):
            yield f"diameter.peers[{index}].origin_host", f"expected a host name, not {peer.origin_host!r}"
    for index, address in enumerate(diameter.listen):
        if not is_ip_address(address.host):
            yield f"diameter.listen[{index}]", f"expected an IP address, not {address.host!r}"
    if diameter.source is not None and not is_ip_address(diameter.source):
        yield "diameter.source", f"expected an IP address, not {diameter.source!r}"
    if diameter.tls is not None:
        try:
            TlsContexts(diameter.tls.options())
        except TlsSetupError as error:
            yield "diameter.tls", str(error)


def _check_tls(config: Config) -> Iterator[tuple[str, str]]:
    tls = config.sip.tls
    if tls is None:
        return
    try:
        TlsContexts(tls.options())
    except TlsSetupError as error:
        yield "sip.tls", str(error)
    for index, peer in enumerate(tls.peers):
        if not normal_identity(peer):
            yield f"sip.tls.peers[{index}]", f"expected a domain (no wildcard) or an address, not {peer!r}"


def _check_control(media: MediaConfig) -> Iterator[tuple[str, str]]:
    tls = media.control.tls
    hosts = {"media.control.listen": None if media.control.listen is None else media.control.listen.host}
    if media.mode is MediaMode.REMOTE:
        name, _, port = (media.discover or "").rpartition(":")
        if not name or not port.isdigit():
            yield "media.discover", "expected name:port of the media hosts"
        hosts["media.discover"] = name.strip("[]")
    if tls is None:
        for path, host in hosts.items():
            if host and not (host == "localhost" or (is_ip_address(host) and ip_address(host).is_loopback)):
                yield path, "needs media.control.tls: without certificates only the loopback interface is used"
        return
    if tls.ca is None or not tls.verify_peer:
        yield "media.control.tls", "needs ca, an authority of your own, and verify_peer"
    try:
        TlsContexts(tls.options())
    except TlsSetupError as error:
        yield "media.control.tls", str(error)


def _check_media(media: MediaConfig) -> Iterator[tuple[str, str]]:
    known = {name.lower() for name in CODEC_NAMES}
    for index, name in enumerate(media.codecs):
        if name.lower() not in known:
            yield f"media.codecs[{index}]", f"no codec is called {name!r} (there are: {', '.join(CODEC_NAMES)})"
    if media.codecs and not own_codecs(media.codecs):
        yield "media.codecs", "none of them is installed here"
    try:
        ip_address(media.address)
    except ValueError:
        yield "media.address", f"expected an IP address, not {media.address!r}"
    yield from _check_control(media)
    if media.ports.last - media.ports.first + 1 < 2 * media.workers:
        yield "media.ports", f"fewer than two ports for each of the {media.workers} workers"


def check_config(config: Config) -> tuple[list[Problem], list[Problem]]:
    """Checks what single values cannot know; returns problems and warnings."""
    problems = [
        Problem(path, text)
        for check in (_check_uris, _check_agents, _check_routing, _check_peers, _check_transports, _check_tls)
        for path, text in check(config)
    ]
    problems += [Problem(path, text) for path, text in (*_check_recording(config), *_check_media(config.media))]
    in_policy = policy_problems(config.policy, set(config.agents), _pattern_problem)
    problems += [Problem(path, text) for path, text in in_policy]
    if not config.sip.listen:
        problems.append(Problem("sip.listen", "there must be at least one address"))
    if len(set(config.sip.listen)) < len(config.sip.listen):
        problems.append(Problem("sip.listen", "an address is there twice"))
    if config.store.url != "memory:":
        problems.append(Problem("store.url", f"expected memory:, not {config.store.url!r}"))
    return problems, [] if problems else list(_warnings(config))


def _warnings(config: Config) -> Iterator[Problem]:
    budget_ms = config.sip.answer_budget_ms
    if budget_ms >= CORE_GUARD_MS:
        text = f"{budget_ms} ms is not below {CORE_GUARD_MS} ms: cores give up on an AS before that"
        yield Problem("sip.answer_budget_ms", text)
    if config.diameter.peers and config.diameter.sh.budget_ms >= budget_ms:
        yield Problem("diameter.sh.budget_ms", f"leaves nothing of sip.answer_budget_ms ({budget_ms} ms)")
    known = [*config.diameter.accept_from, *(peer.origin_host for peer in config.diameter.peers if peer.origin_host)]
    if config.diameter.listen and not known:
        yield Problem("diameter.listen", "nobody may connect: neither accept_from nor an origin_host of a peer")
    for index, peer in enumerate(config.diameter.peers):
        if peer.address.transport == "tls" and peer.origin_host is None and is_ip_address(peer.address.host):
            text = "is missing: the certificate would have to name the address, which it rarely does"
            yield Problem(f"diameter.peers[{index}].origin_host", text)
    if config.sip.tls is not None and not config.sip.tls.verify_peer:
        yield Problem("sip.tls.verify_peer", "nobody's certificate is checked: for laboratories only")
    yield from _capacity_warnings(config.media, config.limits)
    for name, why in missing_codecs(config.media.codecs).items():
        yield Problem("media.codecs", f"{name} is not offered: {why}")
    for path, text in policy_warnings(config.policy):
        yield Problem(path, text)
    if not config.sip.trusted_peers:
        yield Problem("sip.trusted_peers", "nobody is trusted: no call will be taken")
    if not config.routing:
        yield Problem("routing", "no rule: only users whose Sh profile names an agent are served")
    for name, agent in config.agents.items():
        for index, engine in enumerate(agent.engines):
            if engine.connect_timeout_ms > budget_ms:
                path = f"agents.{name}.engines[{index}].connect_timeout_ms"
                yield Problem(path, f"longer than sip.answer_budget_ms ({budget_ms} ms), which ends the wait first")


def _capacity_warnings(media: MediaConfig, limits: LimitsConfig) -> Iterator[Problem]:
    # RTP takes even ports, so that a peer may assume RTCP on the odd one above, RFC 3550 §11
    pairs = (media.ports.last + 1) // 2 - (media.ports.first + 1) // 2
    if media.mode is MediaMode.LOCAL and pairs < limits.calls:
        yield Problem("media.ports", f"room for {pairs} calls, but limits.calls is {limits.calls}")
