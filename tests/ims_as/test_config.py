from __future__ import annotations

import json
import re
from ipaddress import ip_network
from pathlib import Path

import attrs
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ims_as import config_model
from ims_as.config import (
    Config,
    ConfigError,
    EngineReady,
    HostPort,
    MediaMode,
    OnFailure,
    PeerAddress,
    PortRange,
    RoutingRule,
    load_config,
    parse_config,
)
from ims_as.config_load import MAX_CONFIG_BYTES
from ims_as.config_schema import build_schema, field_docs, render_config, to_plain
from ims_as.transport.address import ListenAddress
from tests.support.certificates import Authority

FULL = """
identity: sip:ai-as.ims.mnc001.mcc001.3gppnetwork.org     # our AS name as in the iFC ServerName
sip:
  listen: ["udp:127.0.0.30:5060", "tcp:127.0.0.30:5060"]
  advertise: null
  trusted_peers: ["127.0.0.0/8"]
  answer_budget_ms: 1500
  on_failure: ifc
diameter:
  origin_host: ai-as.ims.mnc001.mcc001.3gppnetwork.org
  origin_realm: ims.mnc001.mcc001.3gppnetwork.org
  destination_realm: ims.mnc001.mcc001.3gppnetwork.org
  peers: [{address: "tcp:127.0.0.10:3868"}]
  sh: {budget_ms: 300, cache_s: 3600, subscribe: true, service_indication: ai-voice-agent}
media:
  mode: local
  workers: 1
  address: 127.0.0.30
  ports: "20000-39999"
  discover: null
agents:
  default:
    engines:
      - {type: websocket, url: "ws://127.0.0.40:9000/", rate: 16000}
    greeting: null
    filler: {after_ms: 700, clip: null}
    transfer: {allow: ["served-user"], queue: null}
routing:
  - {match: {request_uri: ".*"}, agent: default}
limits: {calls: 2000, calls_per_second: 200}
api: {listen: "127.0.0.1:8080"}
store: {url: "memory:"}
cdr: {directory: null}
log: {level: info, format: json}
"""


def problems(text: str, *overrides: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, overrides=overrides, environ=environ or {})
    return [str(problem) for problem in caught.value.problems]


def warnings(text: str, *overrides: str) -> list[str]:
    return [str(warning) for warning in parse_config(text, overrides=overrides, environ={})[1]]


def test_documented_file_is_accepted_and_is_what_the_defaults_say() -> None:
    config, doubts = parse_config(FULL, environ={})
    assert doubts == []
    assert config.sip.listen[1] == ListenAddress("tcp", "127.0.0.30", 5060)
    assert config.diameter.peers[0].address == PeerAddress("tcp", "127.0.0.10", 3868)
    defaults, _ = parse_config("", environ={})
    assert defaults == attrs.evolve(config, diameter=attrs.evolve(config.diameter, peers=()))


def test_values_get_their_types() -> None:
    config, _ = parse_config(
        """
sip: {listen: ["tcp:[2001:db8::1]:5061"], advertise: as.example.net, trusted_peers: ["10.0.0.0/8", "::1/128"],
      on_failure: pass-on, hosts: {scscf.example.net: "127.0.0.20:5060"}}
media: {mode: local, discover: "media:7000", ports: 2000-2999}
agents: {a: {engines: [{url: "wss://x/y", ready: event}]}}
routing: [{agent: a}]
cdr: {directory: cdrs}
""",
        environ={},
    )
    assert config.sip.listen == (ListenAddress("tcp", "2001:db8::1", 5061),)
    assert config.sip.advertise == ("as.example.net", 5060)
    assert config.sip.trusted_peers == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert config.sip.on_failure is OnFailure.PASS_ON
    assert config.sip.hosts == {"scscf.example.net": HostPort("127.0.0.20", 5060)}
    assert config.media.mode is MediaMode.LOCAL
    assert config.media.ports == PortRange(2000, 2999)
    assert config.agents["a"].engines[0].ready is EngineReady.EVENT
    assert config.cdr.directory == Path("cdrs")


def test_all_problems_are_reported_at_once_with_path_and_line() -> None:
    found = problems(
        """
sip:
  listen: ["udp:127.0.0.30:5060", "xdp:1", 5]
  answer_budget_ms: "5"
  foo: 1
diameter: {peers: [{addres: "x"}], sh: 4}
media: {workers: 0, ports: 5}
agents: {a: {engines: [{}, {url: "ws://x", rate: 5}]}}
api: {listen: "x:99999"}
""",
        "sip.on_failure=maybe",
        environ={"IMS_AS__LIMITS__CALLS": "no"},
    )
    starts = [
        "sip.listen[1]: 'xdp:1': expected udp:",
        "sip.listen[2]: expected a string, not 5 (line 3)",
        "sip.answer_budget_ms: expected a whole number, not '5' (line 4)",
        "sip.on_failure: expected ifc or respond-503 or pass-on, not 'maybe'",
        "sip.foo: unknown key (known here: listen,",
        "diameter.peers[0].address: is missing",
        "diameter.peers[0].addres: unknown key",
        "diameter.sh: expected a mapping, not 4 (line 6)",
        "media.workers: expected a value from 1 to 256, not 0 (line 7)",
        "media.ports: expected a string, not 5",
        "agents.a.engines[0].url: is missing",
        "agents.a.engines[1].rate: expected one of 8000,",
        "limits.calls: expected a whole number, not False",
        "api.listen: expected a port number",
    ]
    for start in starts:
        assert [problem for problem in found if problem.startswith(start)], start
    assert len(found) == len(starts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("identity: hello", "identity: expected a SIP URI"),
        ("routing: [{agent: nobody}]", "routing[0].agent: no agent is called 'nobody' (there are: default)"),
        ("routing: [{agent: default, match: {colour: x}}]", "routing[0].match.colour: unknown field"),
        ("routing: [{agent: default, match: {to: '('}}]", "routing[0].match.to: not a regular expression"),
        (f"routing: [{{agent: default, match: {{to: '{'a' * 1001}'}}}}]", "routing[0].match.to: longer than"),
        ("agents: {}\nrouting: []", "agents: there must be at least one"),
        ("agents: {default: {engines: []}}", "agents.default.engines: there must be at least one"),
        ("agents: {default: {engines: [{url: 'http://x'}]}}", "agents.default.engines[0].url: expected ws://"),
        ("agents: {default: {engines: [{url: 'ws://a:b@x'}]}}", "agents.default.engines[0].url: a URL must not carry"),
        ("agents: {default: {engines: [{url: 'ws://x:99999'}]}}", "agents.default.engines[0].url: not a URL"),
        (
            "agents: {default: {engines: [{url: 'ws://x', type: other}]}}",
            "agents.default.engines[0].type: expected one",
        ),
        ("agents: {default: {filler: {clip: /no/such.wav}}}", "agents.default.filler.clip: no such file"),
        ("agents: {default: {transfer: {allow: [queue]}}}", "agents.default.transfer.queue: is missing"),
        ("agents: {default: {transfer: {queue: 'mail:x'}}}", "agents.default.transfer.queue: expected a SIP or tel"),
        ("agents: {default: {transfer: {allow: [moon]}}}", "agents.default.transfer.allow[0]: expected served-user"),
        ("agents: {default: {transfer: {allow: ['sip:(']}}}", "agents.default.transfer.allow[0]: not a regular"),
        ("media: {address: localhost}", "media.address: expected an IP address"),
        ("media: {ports: 39999-20000}", "media.ports: expected two ports"),
        ("media: {ports: 80-20000}", "media.ports: expected two ports"),
        ("media: {ports: 20000-70000}", "media.ports: expected a port number"),
        ("media: {ports: 2000-2007, workers: 8}\nlimits: {calls: 1}", "media.ports: fewer than two ports"),
        ("media: {mode: remote}", "media.discover: expected name:port"),
        ("sip: {listen: ['tls:127.0.0.1:5061']}", "sip.listen[0]: needs sip.tls"),
        ("diameter: {peers: [{address: 'tls:x:1'}]}", "diameter.peers[0].address: needs diameter.tls"),
        ("diameter: {listen: ['tls:127.0.0.1']}", "diameter.listen[0]: needs diameter.tls"),
        ("diameter: {listen: ['tcp:name']}", "diameter.listen[0]: expected an IP address, not 'name'"),
        ("diameter: {source: name}", "diameter.source: expected an IP address, not 'name'"),
        ("diameter: {peers: [{address: 'tcp:x', origin_host: 'a b'}]}", "diameter.peers[0].origin_host: expected a"),
        ("sip: {listen: []}", "sip.listen: there must be at least one"),
        ("sip: {listen: ['udp:127.0.0.1:1', 'udp:127.0.0.1:1']}", "sip.listen: an address is there twice"),
        ("sip: {listen: udp:127.0.0.1:1}", "sip.listen: expected a list"),
        ("sip: {trusted_peers: [127.0.0.1/8]}", "sip.trusted_peers[0]: expected a network"),
        ("sip: {advertise: 'a b'}", "sip.advertise: expected host:port"),
        ("sip: {advertise: '[::1'}", "sip.advertise: expected host:port"),
        ("sip: null", "sip: expected a mapping"),
        ("store: {url: 'file:x'}", "store.url: expected memory:"),
        ("diameter: {peers: [{address: 'udp:x:1'}]}", "diameter.peers[0].address: expected tcp:"),
        ("limits: {calls: true}", "limits.calls: expected a whole number"),
        ("limits: {calls_per_second: .nan}", "limits.calls_per_second: expected a value"),
        ("log: {level: loud}", "log.level: expected debug or info"),
        ("[1]", "expected a mapping of sections"),
        ("a: [", "not valid YAML"),
        ("1: 2", "not valid YAML: a key must be a string"),
        ("log: {}\nlog: {}", "not valid YAML: key 'log' is there twice (line 2)"),
        ("sip: &a {}\nmedia: *a", "not valid YAML: aliases (*name) are not supported (line 2)"),
        ("x: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)
def test_problem(text: str, expected: str) -> None:
    found = problems(text)
    assert [problem for problem in found if problem.startswith(expected)], found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip: {answer_budget_ms: 2000}", "sip.answer_budget_ms: 2000 ms is not below 2000 ms"),
        ("media: {ports: 20000-20099}", "media.ports: room for 50 calls, but limits.calls is 2000 (line 1)"),
        ("sip: {trusted_peers: []}", "sip.trusted_peers: nobody is trusted"),
        ("routing: []", "routing: no rule"),
        ("sip: {answer_budget_ms: 1000}", "agents.default.engines[0].connect_timeout_ms: longer than"),
        (
            "diameter: {peers: [{address: tcp:x:3868}], sh: {budget_ms: 1500}}",
            "diameter.sh.budget_ms: leaves nothing of sip.answer_budget_ms",
        ),
    ],
)
def test_warning(text: str, expected: str) -> None:
    found = warnings(text)
    assert [warning for warning in found if warning.startswith(expected)], found


def test_environment_beats_file_and_override_beats_environment() -> None:
    text = "limits: {calls: 5, calls_per_second: 6}"
    config, _ = parse_config(
        text,
        overrides=["limits.calls=7", 'sip.listen=["udp:127.0.0.9:1"]'],
        environ={"IMS_AS__LIMITS__CALLS": "8", "IMS_AS__LIMITS__CALLS_PER_SECOND": "9", "IMS_AS_CONFIG": "x"},
    )
    assert config.limits.calls == 7
    assert config.limits.calls_per_second == 9
    assert config.sip.listen == (ListenAddress("udp", "127.0.0.9", 1),)


def test_override_reaches_into_lists() -> None:
    config, _ = parse_config(
        FULL, overrides=["agents.default.engines[0].url=ws://h:1/", "sip.listen.2=udp:127.0.0.9:7"]
    )
    assert config.agents["default"].engines[0].url == "ws://h:1/"
    assert config.sip.listen[2].port == 7


@pytest.mark.parametrize(
    "setting", ["x", "a..b=1", "sip.listen[9]=udp:127.0.0.1:1", "identity.x=1", "sip=[", "sip.listen.a=1"]
)
def test_bad_override_is_a_problem_of_its_own(setting: str) -> None:
    assert problems(FULL, setting)


def test_secret_comes_from_file_or_environment_only(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("from-file\n")
    config, _ = parse_config(f"sip: {{bypass_key: {{file: {key}}}}}", environ={})
    assert config.sip.bypass_key is not None
    assert config.sip.bypass_key.value == "from-file"
    config, _ = parse_config("sip: {bypass_key: {env: KEY}}", environ={"KEY": "from-env"})
    assert config.sip.bypass_key is not None
    assert config.sip.bypass_key.value == "from-env"
    assert "from-env" not in repr(config)
    assert "from-env" not in render_config(config)
    assert to_plain(config)["sip"]["bypass_key"] == {"env": "KEY"}


def test_secret_in_the_file_is_refused_and_not_repeated() -> None:
    found = problems("sip: {bypass_key: hunter2}")
    assert found == ["sip.bypass_key: a secret must be given as {file: PATH} or {env: NAME} (line 1)"]
    assert problems("sip: {bypass_key: {env: MISSING}}") == [
        "sip.bypass_key: environment variable MISSING is not set (line 1)"
    ]
    assert problems("sip: {bypass_key: {file: /no/such}}")[0].startswith("sip.bypass_key: /no/such cannot be read")


def test_file_is_bounded_and_must_be_text(tmp_path: Path) -> None:
    path = tmp_path / "as.yaml"
    path.write_text("#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="longer than"):
        load_config(path, environ={})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path, environ={})
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.yaml", environ={})
    path.write_text("limits: {calls: 3}")
    assert load_config(path, environ={}).limits.calls == 3


def test_shown_configuration_can_be_loaded_again() -> None:
    config, _ = parse_config(FULL, environ={})
    assert parse_config(render_config(config), environ={})[0] == config


def test_peer_rules_are_checked_and_shown() -> None:
    rule = '{"do":"numbers","country":"49","national_prefix":"0"}'
    config = load_config(
        None, overrides=[f'sip.peers=[{{"match":"192.0.2.0/24","preset":"asterisk","rules":[{rule}]}}]'], environ={}
    )
    [peer] = config.sip.peers
    assert (str(peer.match), peer.preset, peer.rules[0].country) == ("192.0.2.0/24", "asterisk", "49")
    assert parse_config(render_config(config), environ={})[0] == config
    for wrong, path in (
        ('{"do":"set","header":"Via","value":"x"}', "sip.peers[0].rules[0].header"),
        ('{"do":"sing"}', "sip.peers[0].rules[0].do"),
        ('{"do":"numbers","national_prefix":"0"}', "sip.peers[0].rules[0].country"),
    ):
        with pytest.raises(ConfigError, match=re.escape(path)):
            load_config(None, overrides=[f'sip.peers=[{{"match":"::/0","rules":[{wrong}]}}]'], environ={})


def test_routing_rules_may_name_a_role() -> None:
    config, _ = parse_config("routing: [{role: b2bua, match: {to: x}}, {role: pass-on}, {agent: default}]", environ={})
    assert [rule.role.value for rule in config.routing] == ["b2bua", "pass-on", "agent"]


def test_routing_rule_matches_when_every_pattern_is_found() -> None:
    rule = RoutingRule("a", {"request_uri": "^sip:\\+49", "from": "example"})
    assert rule.matches({"request_uri": "sip:+491@x", "from": "sip:a@example.org"})
    assert not rule.matches({"request_uri": "sip:+431@x", "from": "sip:a@example.org"})
    assert not rule.matches({"request_uri": "sip:+491@x"})
    assert RoutingRule("a").matches({})


def test_every_field_is_documented() -> None:
    for name in config_model.__all__:
        cls = getattr(config_model, name)
        if attrs.has(cls):
            for field in attrs.fields(cls):
                documented = field_docs().get((cls.__name__, field.name)) or attrs.has(type(field.default))
                assert documented, f"{cls.__name__}.{field.name}"


def test_schema_covers_every_key_and_default() -> None:
    schema = build_schema()
    json.dumps(schema)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {field.name for field in attrs.fields(Config)}
    sip = schema["$defs"]["SipConfig"]["properties"]
    assert sip["answer_budget_ms"] == {
        "type": "integer",
        "minimum": 50,
        "maximum": 60000,
        "default": 1500,
        "description": field_docs()["SipConfig", "answer_budget_ms"],
    }
    assert sip["on_failure"]["enum"] == ["ifc", "respond-503", "pass-on"]
    assert sip["listen"]["items"]["type"] == "string"
    assert schema["$defs"]["EngineConfig"]["required"] == ["url"]
    references = re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))
    assert set(references) == set(schema["$defs"])


def nested(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return (
        inner
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["listen", "a", "url"]), inner, max_size=3)
    )


leaves = st.none() | st.booleans() | st.integers(-5, 70000) | st.text(max_size=5) | st.just("udp:127.0.0.1:5060")
plain = nested(nested(leaves))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([field.name for field in attrs.fields(Config)]), plain, max_size=4))
def test_anything_is_either_loaded_or_refused_with_paths(tree: dict[str, object]) -> None:
    try:
        config, _ = parse_config(yaml.safe_dump(tree), environ={})
    except ConfigError as error:
        refused = error.problems
    else:
        refused = ()
        assert parse_config(render_config(config), environ={})[0] == config
    assert all(problem.path or "YAML" in problem.text for problem in refused)


def test_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("as", dns=["as.example.net"])
    text = f"""
sip:
  listen: ["tls:127.0.0.1:5061"]
  tls: {{certificate: {certificate}, key: {{file: {key}}}, ca: {authority.ca}, peers: [scscf.example.net]}}
"""
    config, doubts = parse_config(text, environ={})
    assert doubts == []
    assert config.sip.tls is not None
    options = config.sip.tls.options()
    assert (options.certificate, options.key_file, options.key, options.ca) == (certificate, key, None, authority.ca)
    assert options.verify_peer
    assert options.peers == ("scscf.example.net",)

    found = warnings(text, "sip.tls.verify_peer=false")
    assert found == ["sip.tls.verify_peer: nobody's certificate is checked: for laboratories only"]
    by_environment = parse_config(text, overrides=["sip.tls.key={env: KEY}"], environ={"KEY": key.read_text()})[0]
    assert by_environment.sip.tls is not None
    assert by_environment.sip.tls.options().key == key.read_text()
    assert "PRIVATE" not in render_config(by_environment)

    assert [line.split(":")[0] for line in problems(text, "sip.tls.peers=['*.example.net']")] == ["sip.tls.peers[0]"]
    assert "cannot be used" in problems(text, f"sip.tls.certificate={authority.ca}")[0]
    assert "sip.tls: certificate" in problems(text, "sip.tls.key=null")[0]
    with pytest.raises(ConfigError):
        parse_config(text, overrides=["sip.tls={}"], environ={})


def test_diameter_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("as", dns=["as.example.net"])
    text = f"""
diameter:
  peers:
    - {{address: "tls:hss.example.net"}}
    - {{address: "tls:[2001:db8::1]:3869", origin_host: hss2.example.net}}
  listen: ["tcp:[::1]", "tls:127.0.0.1"]
  source: "2001:db8::2"
  tls: {{certificate: {certificate}, key: {{file: {key}}}, ca: {authority.ca}}}
"""
    config, doubts = parse_config(text, environ={})
    assert doubts == []
    diameter = config.diameter
    assert [str(peer.address) for peer in diameter.peers] == ["tls:hss.example.net:5658", "tls:[2001:db8::1]:3869"]
    assert [str(address) for address in diameter.listen] == ["tcp:[::1]:3868", "tls:127.0.0.1:5658"]
    assert diameter.tls is not None
    options = diameter.tls.options()
    assert (options.certificate, options.key_file, options.ca) == (certificate, key, authority.ca)
    assert options.verify_peer
    assert parse_config(render_config(config), environ={})[0] == config

    assert "diameter.tls: certificate or key" in problems(text, f"diameter.tls.certificate={authority.ca}")[0]
    by_address = '[{"address": "tls:127.0.0.1"}]'
    found = warnings(text, f"diameter.peers={by_address}")
    assert [line.split(":")[0] for line in found] == ["diameter.listen", "diameter.peers[0].origin_host"]


def test_sctp_needs_a_kernel_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "diameter: {peers: [{address: 'sctp:hss.example.net'}]}"
    told = "SCTP: the kernel of this machine has none"
    monkeypatch.setattr("ims_as.config_check.sctp_problem", lambda: told)
    assert problems(text) == [f"diameter.peers[0].address: {told} (line 1)"]
    monkeypatch.setattr("ims_as.config_check.sctp_problem", lambda: None)
    assert str(parse_config(text, environ={})[0].diameter.peers[0].address) == "sctp:hss.example.net:3868"


def test_media_of_other_machines_needs_a_name_and_certificates() -> None:
    def problems(*overrides: str) -> list[str]:
        try:
            load_config(None, overrides=[*overrides], environ={})
        except ConfigError as error:
            return [str(each) for each in error.problems if "media" in str(each)]
        return []

    assert problems("media.mode=remote") == ["media.discover: expected name:port of the media hosts"]
    (problem,) = problems("media.mode=remote", "media.discover=media.ims.test:7000")
    assert "needs media.control.tls" in problem
    (problem,) = problems("media.control.listen=192.0.2.1:7000")
    assert problem.startswith("media.control.listen: needs media.control.tls")
    assert problems("media.mode=remote", "media.discover=127.0.0.1:7000", "media.control.listen=127.0.0.1:7000") == []
    (problem, _) = problems('media.control.tls={"certificate": "none.pem"}')
    assert "needs ca" in problem
