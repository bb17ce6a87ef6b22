"""What FHoSS and Open5GS would make of our scripts: read back as they do it, the criteria must decide the same."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ifc.engine import evaluate
from ifc.explain import describe_criterion
from ifc.model import InitialFilterCriteria
from ifc.parser import parse_criteria_untrusted
from ifc.view import PlainRequestView
from ims_as.ifc_tool.description import Description, DescriptionError, parse_description
from ims_as.ifc_tool.render import Format, Options, render
from tests.ifc.strategies import CRITERIA_LISTS, VIEWS

AS_COLUMNS = (
    "id, name, server_name, default_handling, service_info, diameter_address, rep_data_size_limit, udr, pur, snr, "
    "udr_rep_data, udr_impu, udr_ims_user_state, udr_scscf_name, udr_ifc, udr_location, udr_user_state, "
    "udr_charging_info, udr_msisdn, udr_psi_activation, udr_dsai, udr_aliases_rep_data, pur_rep_data, "
    "pur_psi_activation, pur_dsai, pur_aliases_rep_data, snr_rep_data, snr_impu, snr_ims_user_state, snr_scscf_name, "
    "snr_ifc, snr_psi_activation, snr_dsai, snr_aliases_rep_data, include_register_response, include_register_request"
)
SCHEMA = f"""
CREATE TABLE application_server ({AS_COLUMNS.replace("id,", "id INTEGER PRIMARY KEY,", 1)});
CREATE TABLE tp (id INTEGER PRIMARY KEY, name, condition_type_cnf);
CREATE TABLE spt (id INTEGER PRIMARY KEY, id_tp, condition_negated, grp, type, requesturi, method, header,
  header_content, session_case, sdp_line, sdp_line_content, registration_type);
CREATE TABLE ifc (id INTEGER PRIMARY KEY, name, id_application_server, id_tp, profile_part_ind);
CREATE TABLE sp (id INTEGER PRIMARY KEY, name, cn_service_auth);
CREATE TABLE sp_ifc (id INTEGER PRIMARY KEY, id_sp, id_ifc, priority);
CREATE TABLE impu (id INTEGER PRIMARY KEY, identity, id_sp);
INSERT INTO sp VALUES (1, 'default_sp', 0);
INSERT INTO ifc VALUES (4, 'default_ifc', 1, 1, -1);
INSERT INTO tp VALUES (7, 'default_tp', 0);
INSERT INTO spt VALUES (9, 7, 0, 0, 1, NULL, 'PUBLISH', NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO impu VALUES (1, 'sip:bob@ims.example.net', 1), (2, 'sip:eve@ims.example.net', 1);
"""
RICH = r"""
user: {private: 001010000000002@ims.example.net, public: ["sip:bob@ims.example.net"]}
criteria:
  - priority: 7
    server: sip:term@ai-as.example.net
    default_handling: continued
    profile_part: registered
    all:
      - method: INVITE
      - any: [{session_case: terminating-registered}, {session_case: terminating-unregistered}]
      - not: {header: ^Resource-Priority$}
      - {header: ^P-Asserted-Identity$, content: '^<?tel:\+49[0-9]+ & <it''s>'}
      - {sdp: m, content: ^audio}
  - priority: 3
    server: sip:ai-as.example.net
    service_info: "it's <&> \\ o"
    include_register: [request]
    all: [{method: REGISTER, registration: [initial, de]}]
"""


def load(script: str, *, times: int = 1) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.row_factory = sqlite3.Row
    database.executescript(SCHEMA)
    for _ in range(times):
        database.executescript(script)
    return database


def fhoss_xml(database: sqlite3.Connection, profile: str) -> bytes:
    """As FHoSS makes it: text unescaped, -1 leaves out, the registration type from its mask."""
    xml = "<IFCs>"
    rows = database.execute(
        "SELECT * FROM sp_ifc JOIN ifc ON ifc.id = id_ifc JOIN application_server a ON a.id = id_application_server "
        "WHERE id_sp = (SELECT id FROM sp WHERE name = ?) ORDER BY priority",
        (profile,),
    ).fetchall()
    for row in rows:
        xml += f"<InitialFilterCriteria><Priority>{row['priority']}</Priority>"
        for point in database.execute("SELECT * FROM tp WHERE id = ?", (row["id_tp"],)):
            xml += f"<TriggerPoint><ConditionTypeCNF>{point['condition_type_cnf']}</ConditionTypeCNF>"
            for spt in database.execute("SELECT * FROM spt WHERE id_tp = ? ORDER BY id", (point["id"],)):
                xml += _spt_xml(spt)
            xml += "</TriggerPoint>"
        handling, info = row["default_handling"], row["service_info"]
        xml += f"<ApplicationServer><ServerName>{row['server_name']}</ServerName>"
        xml += f"<DefaultHandling>{handling}</DefaultHandling>" if handling != -1 else ""
        xml += f"<ServiceInfo>{info}</ServiceInfo>" if info else ""
        included = [name for name in ("Request", "Response") if row[f"include_register_{name.lower()}"]]
        inner = "".join(f"<IncludeRegister{name}/>" for name in included)
        xml += f"<Extension>{inner}</Extension></ApplicationServer>" if included else "</ApplicationServer>"
        part = row["profile_part_ind"]
        xml += f"<ProfilePartIndicator>{part}</ProfilePartIndicator>" if part != -1 else ""
        xml += "</InitialFilterCriteria>"
    return (xml + "</IFCs>").encode()


def _spt_xml(spt: sqlite3.Row) -> str:
    condition = (
        f"<RequestURI>{spt['requesturi']}</RequestURI>",
        f"<Method>{spt['method']}</Method>",
        f"<SIPHeader><Header>{spt['header']}</Header><Content>{spt['header_content']}</Content></SIPHeader>",
        f"<SessionCase>{spt['session_case']}</SessionCase>",
        f"<SessionDescription><Line>{spt['sdp_line']}</Line><Content>{spt['sdp_line_content']}</Content>"
        "</SessionDescription>",
    )[spt["type"]]
    kinds = "".join(
        f"<RegistrationType>{kind}</RegistrationType>" for kind in range(3) if spt["registration_type"] >> kind & 1
    )
    extension = f"<Extension>{kinds}</Extension>" if kinds else ""
    negated = f"<ConditionNegated>{spt['condition_negated']}</ConditionNegated>"
    return f"<SPT>{negated}<Group>{spt['grp']}</Group>{condition}{extension}</SPT>"


def decided(criteria: tuple[InitialFilterCriteria, ...], view: PlainRequestView) -> list[tuple[int, str, int]]:
    return [
        (each.criterion.priority, each.criterion.application_server.server_name,
         int(each.criterion.application_server.default_handling or 0))
        for each in evaluate(criteria, view)
    ]  # fmt: skip


def test_the_rows_of_fhoss():
    rendered = render(parse_description(RICH), Format.FHOSS, Options("ai-agent", "as.example.net"))
    assert "LIKE" not in rendered.text  # _ in a name would be a wildcard
    with closing(load(rendered.text, times=2)) as database:
        assert [tuple(row) for row in database.execute("SELECT name, condition_type_cnf FROM tp ORDER BY id")] == [
            ("default_tp", 0), ("ai-agent-7", 1), ("ai-agent-3", 1)
        ]  # fmt: skip
        row = database.execute("SELECT * FROM application_server WHERE name = 'ai-agent-7'").fetchone()
        assert (row["diameter_address"], row["udr"], row["snr_rep_data"], row["pur_dsai"]) == (
            "as.example.net",
            1,
            1,
            0,
        )
        hosts = database.execute("SELECT count(*) FROM application_server WHERE diameter_address != ''").fetchone()
        assert tuple(hosts) == (1,)
        mask = database.execute("SELECT registration_type FROM spt WHERE method = 'REGISTER'").fetchone()
        assert tuple(mask) == (1 | 4,)
        priorities = database.execute("SELECT priority FROM sp_ifc ORDER BY id").fetchall()
        assert [each[0] for each in priorities] == [7, 3]
        users = database.execute("SELECT sp.name FROM impu JOIN sp ON sp.id = id_sp ORDER BY impu.id").fetchall()
        assert [each[0] for each in users] == ["ai-agent", "default_sp"]
        parsed = parse_criteria_untrusted(fhoss_xml(database, "ai-agent"))
    assert parsed.problems == ()
    assert describe_criterion(parsed.criteria[0]).startswith("priority 3: sip:ai-as.example.net")
    assert parsed.criteria[0].application_server.service_info == "it's <&> \\ o"
    assert parsed.criteria[0].application_server.include_register_request
    assert "^<?tel:\\+49[0-9]+ & <it's>" in describe_criterion(parsed.criteria[1])
    assert [str(each) for each in rendered.warnings] == [
        "criteria[0]: ^Resource-Priority$ without content is written with content .*, which means the same"
    ]


def test_a_service_profile_that_is_there_keeps_what_it_has():
    script = render(parse_description(RICH), Format.FHOSS, Options("default_sp")).text
    with closing(load("INSERT INTO sp_ifc VALUES (1, 1, 4, 0);\n" + script)) as database:
        assert [tuple(row) for row in database.execute("SELECT id_sp, priority FROM sp_ifc ORDER BY priority")] == [
            (1, 0), (1, 3), (1, 7)
        ]  # fmt: skip


def test_fhoss_without_a_configuration():
    rendered = render(parse_description(RICH), Format.FHOSS)
    assert "give -c as.yaml" in str(rendered.warnings[-1])
    with closing(load(rendered.text)) as database:
        row = database.execute("SELECT max(udr), max(pur), max(diameter_address) FROM application_server").fetchone()
        assert tuple(row) == (0, 0, "")


@pytest.mark.parametrize("name", ["", "a'b", "seventeen-letters", "-x", "_"])
def test_names_that_fhoss_cannot_keep(name: str):
    with pytest.raises(DescriptionError, match="--name"):
        render(parse_description(RICH), Format.FHOSS, Options(name))


@given(CRITERIA_LISTS, st.lists(VIEWS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_fhoss_decides_the_same(criteria: tuple[InitialFilterCriteria, ...], views: list[PlainRequestView]):
    assume(len({each.priority for each in criteria}) == len(criteria))
    with closing(load(render(Description(criteria), Format.FHOSS).text)) as database:
        parsed = parse_criteria_untrusted(fhoss_xml(database, "ims-as"))
    assert parsed.problems == ()
    for view in views:
        assert decided(parsed.criteria, view) == decided(criteria, view)


# ---------------------------------------------------------------- Open5GS

ONE = r"""
user: {private: 001010000000002@ims.example.net, public: ["tel:+15550100"]}
criteria:
  - priority: 0
    server: sip:ai-as.ims.example.net:5060
    any:
      - all: [{method: INVITE}, {session_case: terminating-registered}]
      - all: [{not: {header: ^Priority$, content: '\+psap'}}, {request_uri: ^sos}, {header: X}]
"""


def document(script: str) -> tuple[dict[str, str], list[Any]]:
    """(query, ifc) of the script: what mongosh would evaluate."""
    call = re.search(r"updateMany\((\{.*?\}), \{ \$set: (.*) \}\);", script, re.DOTALL)
    assert call is not None
    plain = re.sub(r"NumberInt\(([0-9]+)\)", r"\1", call[2])
    assert re.search(r": [0-9]", call[2]) is None, "a number that is no int32"
    found = json.loads(re.sub(r"([{,]\s*)([a-z_]+):", r'\1"\2":', plain))
    return json.loads(call[1]), found["ifc"]


def open5gs_xml(criteria: list[Any]) -> bytes:
    xml = "<IFCs>"
    for each in criteria:
        xml += f"<InitialFilterCriteria><Priority>{each['priority']}</Priority><TriggerPoint>"
        xml += f"<ConditionTypeCNF>{each['trigger_point']['condition_type_cnf']}</ConditionTypeCNF>"
        for spt in each["trigger_point"]["spt"]:
            xml += f"<SPT><ConditionNegated>{spt['condition_negated']}</ConditionNegated><Group>{spt['group']}</Group>"
            if "method" in spt:
                xml += f"<Method>{spt['method']}</Method>"
            elif "session_case" in spt:
                xml += f"<SessionCase>{spt['session_case']}</SessionCase>"
            elif "request_uri" in spt:
                xml += f"<RequestURI>{spt['request_uri']}</RequestURI>"
            else:
                header = spt["sip_header"]
                xml += (
                    f"<SIPHeader><Header>{header['header']}</Header><Content>{header['content']}</Content></SIPHeader>"
                )
            xml += "</SPT>"
        server = each["application_server"]
        xml += f"</TriggerPoint><ApplicationServer><ServerName>{server['server_name']}</ServerName>"
        xml += f"<DefaultHandling>{server['default_handling']}</DefaultHandling></ApplicationServer>"
        xml += "</InitialFilterCriteria>"
    return (xml + "</IFCs>").encode()


def test_the_document_of_open5gs():
    rendered = render(parse_description(ONE), Format.OPEN5GS)
    query, criteria = document(rendered.text)
    assert query == {"imsi": "001010000000002"}
    assert criteria[0]["trigger_point"]["spt"][3] == {"condition_negated": 0, "group": 1, "request_uri": "^sos"}
    assert [str(each) for each in rendered.warnings] == [
        "criteria[0]: X without content is written with content .*, which means the same",
        "user.public: public identities come from the subscriber's msisdn and IMSI: these are left out",
    ]
    everybody = render(parse_description(ONE.replace("user:", "#")), Format.OPEN5GS).text
    assert document(everybody)[0] == {}
    assert "all subscribers" in everybody


@given(CRITERIA_LISTS, st.lists(VIEWS, min_size=1, max_size=4))
@settings(max_examples=100)
def test_open5gs_decides_the_same_or_refuses(
    criteria: tuple[InitialFilterCriteria, ...], views: list[PlainRequestView]
):
    for criterion in criteria:
        try:
            rendered = render(Description((criterion,)), Format.OPEN5GS)
        except DescriptionError:
            continue
        parsed = parse_criteria_untrusted(open5gs_xml(document(rendered.text)[1]))
        assert parsed.problems == ()
        for view in views:
            assert decided(parsed.criteria, view) == decided((criterion,), view)


def test_what_open5gs_cannot_hold():
    text = r"""
user: {private: bob@example.net, public: ["sip:bob@x"]}
criteria:
  - {priority: 1, server: sip:a, profile_part: registered, all: [{sdp: m}, {method: REGISTER, registration: re}]}
  - {priority: 2, server: sip:a}
  - {priority: 3, server: sip:a, service_info: x, include_register: request, all: [{header: a, content: "<&"}]}
"""
    with pytest.raises(DescriptionError) as caught:
        render(parse_description(text), Format.OPEN5GS)
    told = [each.at("a.yaml") for each in caught.value.problems]
    assert [line.split(": ")[0:2] for line in told] == [
        ["a.yaml:5:5", "criteria[1]"],
        ["a.yaml:4:5", "criteria[0]"],
        ["a.yaml:4:5", "criteria[0]"],
        ["a.yaml:4:5", "criteria[0]"],
        ["a.yaml:5:5", "criteria[1]"],
        ["a.yaml:6:5", "criteria[2]"],
        ["a.yaml:2:17", "user.private"],
    ]
    many = "criteria: [{priority: 1, server: 'sip:a', all: [" + ", ".join(["{method: INVITE}"] * 21) + "]}]"
    with pytest.raises(DescriptionError, match="more than 20 triggers"):
        render(parse_description(many), Format.OPEN5GS)
    lossy = "criteria: [{priority: 1, server: 'sip:a', service_info: x, include_register: request, all: [{method: A}]}]"
    assert len(render(parse_description(lossy), Format.OPEN5GS).warnings) == 2
