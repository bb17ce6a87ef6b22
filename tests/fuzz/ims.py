"""Targets for what the IMS side reads: header values, event packages, documents, orders."""

from __future__ import annotations

import json
from collections.abc import Callable

from ims_as.call.dtmf_info import InfoDigit, read_info_untrusted
from ims_as.call.order import OrderError, parse_order_untrusted
from ims_as.call.profile_document import (
    ProfileDocumentError,
    compare_profiles_untrusted,
    edit_profile_untrusted,
    profile_problems,
    unknown_elements_untrusted,
)
from ims_as.call.service_settings import parse_service_settings_untrusted
from ims_as.config import AgentConfig, Config
from ims_as.config_model import OutboundConfig
from ims_as.isc.access_network import read_access_networks_untrusted
from ims_as.isc.charging import read_charging_addresses_untrusted, read_charging_vector_untrusted
from ims_as.isc.early_media import read_early_media_untrusted
from ims_as.isc.features import (
    read_accept_contacts_untrusted,
    read_contact_features_untrusted,
    read_feature_caps_untrusted,
    read_reject_contacts_untrusted,
    read_services_untrusted,
)
from ims_as.isc.header_policy import HeaderPolicy
from ims_as.isc.history_info import read_diversions_untrusted, read_history_untrusted
from ims_as.isc.identity import read_asserted_identities_untrusted
from ims_as.isc.privacy import read_privacy_untrusted
from ims_as.isc.reason import read_reasons_untrusted
from ims_as.isc.reginfo import parse_reginfo_untrusted
from ims_as.isc.resource_priority import read_resource_priorities_untrusted
from ims_as.isc.session_id import read_session_id_untrusted
from ims_as.sip.errors import SdpError, SipParseError
from ims_as.sip.event_headers import EventType, SubscriptionState
from ims_as.sip.message import Message, Request
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.precondition import Preconditions
from ims_as.sip.refer import parse_refer_to_untrusted, parse_sipfrag_untrusted
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.session_timer import SessionTimerConfig, answer_timer, read_answer, retry_interval
from tests.fuzz.seeds import MESSAGES, SDPS, SIP_TOKENS, VECTORS
from tests.fuzz.target import Target
from tests.support.sip_messages import response_to

__all__ = ["IMS_TARGETS"]

_READERS: tuple[Callable[[Message], object], ...] = (
    read_access_networks_untrusted,
    read_charging_addresses_untrusted,
    read_charging_vector_untrusted,
    read_early_media_untrusted,
    read_accept_contacts_untrusted,
    read_contact_features_untrusted,
    read_feature_caps_untrusted,
    read_reject_contacts_untrusted,
    read_services_untrusted,
    read_diversions_untrusted,
    read_history_untrusted,
    read_asserted_identities_untrusted,
    read_privacy_untrusted,
    read_reasons_untrusted,
    read_resource_priorities_untrusted,
    read_session_id_untrusted,
)


def _request(data: bytes) -> Request:
    """A request with these header lines besides those that every request has."""
    text = b"INVITE sip:bob@x SIP/2.0\r\n" + MESSAGES[-1].split(b"\r\n", 1)[1].split(b"l: 0")[0] + data
    found = parse_message_untrusted(text.rstrip(b"\r\n") + b"\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(found, Request)
    return found


def read_headers(data: bytes) -> None:
    """Lines of IMS headers, read by all readers."""
    request = _request(data)
    for read in _READERS:
        read(request)


def read_timer(data: bytes) -> None:
    """Session-Expires, Min-SE, Supported, as callee and as caller."""
    request = _request(data)
    answer_timer(request, SessionTimerConfig())
    for status in (200, 422):
        response = response_to(request, status)
        for name in ("Session-Expires", "Min-SE"):
            if (value := request.headers.get(name)) is not None:
                response.headers.add(name, value)
        timer = read_answer(response, offered_s=1800)
        assert timer is not None
        assert timer.give_up_after_s > timer.refresh_after_s > 0
        retry_interval(response, offered_s=1800)


def apply_policy(data: bytes) -> None:
    """A whole message through the table of headers: what comes out is a message again."""
    message = parse_message_untrusted(data)
    policy = HeaderPolicy(own_ioi="Type 3x", host="as.example.net")
    if isinstance(message, Request):
        copied = policy.copy_for_b2bua(message)
        own = policy.response_headers(message) + policy.dialog_headers(message)
        head = [
            (name, value) for name, value in message.headers.items() if name.lower() in ("via", "from", "to", "cseq")
        ]
        parse_message_untrusted(
            Request(message.method, message.uri, [*head, ("Call-ID", "x"), *copied, *own]).to_bytes()
        )
        policy.engine_headers(message)
    policy.strip_for_untrusted(message)
    message.to_bytes()


def read_preconditions(data: bytes) -> None:
    """Of each media line; our lines can be read again."""
    for media in parse_sdp_untrusted(data).media:
        found = Preconditions.from_offer_untrusted(media)
        if found is not None:
            again = type(media)(media.media, media.port, media.proto, media.formats, tuple(found.to_lines()))
            Preconditions.from_offer_untrusted(again)
            found.to_failure_lines()


def read_events(data: bytes) -> None:
    """Event, Subscription-State, Refer-To, sipfrag."""
    text = data.decode("utf-8", "surrogateescape")
    accepted = 0
    for read in (EventType.parse_untrusted, SubscriptionState.parse_untrusted, parse_refer_to_untrusted):
        try:
            read(text)
        except SipParseError:
            continue
        accepted += 1
    if parse_sipfrag_untrusted(data) is None and not accepted:
        raise SipParseError("nobody reads it")


def read_info(data: bytes) -> None:
    for kind in ("application/dtmf-relay", "application/dtmf"):
        found = read_info_untrusted(Request("INFO", "sip:x", [("Content-Type", kind)], data))
        if isinstance(found, InfoDigit):
            assert found.digit in "0123456789*#ABCD"
            assert 0 <= found.duration_ms <= 8000


def read_reginfo(data: bytes) -> None:
    parse_reginfo_untrusted(data)


def read_settings(data: bytes) -> None:
    parse_service_settings_untrusted(data)


def edit_settings(data: bytes) -> None:
    """As ``ims-as sh`` shows, compares and changes what is stored."""
    unknown_elements_untrusted(data)
    profile_problems(data)
    edited = edit_profile_untrusted(data, _EDITS)
    assert parse_service_settings_untrusted(edited).agent == "a"
    assert not [each for each in compare_profiles_untrusted(data, edited) if each.name == "language"]


def read_order(data: bytes) -> None:
    """The JSON of ``POST /calls``."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise OrderError(400, "not-json", str(error)) from error
    parse_order_untrusted(content, _CONFIG)


_EDITS = {"agent": "a", "limits.call_seconds": "60", "consent.recording": None}
_ANYBODY = AgentConfig(outbound=OutboundConfig(allow=(".*",), identities=(".*",)))
_CONFIG = Config(agents={"default": _ANYBODY})
_LINES = (
    b'P-Charging-Vector: icid-value="a=b;c";icid-generated-at=[2001:db8::1];orig-ioi="Type 3x";term-ioi=y\r\n',
    b'P-Charging-Function-Addresses: ccf=192.1.1.1; ecf="aaa://x";ccf=[::1]\r\n',
    b"P-Access-Network-Info: 3GPP-E-UTRAN-FDD;utran-cell-id-3gpp=0010100010000001;network-provided, IEEE-802.11\r\n",
    b'P-Asserted-Identity: "A, B" <sip:a@x;user=phone>, <tel:+1-555;phone-context=x>\r\nPrivacy: id;user,header\r\n',
    b"History-Info: <sip:a@x?Reason=SIP%3Bcause%3D302&Privacy=history>;index=1, <tel:+1>;index=1.1;mp=1;cause=302\r\n",
    b'Diversion: <sip:a@x>;reason=unconditional;counter=3;privacy=full, "b" <tel:1>;limit=2\r\n',
    b'Feature-Caps: *;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel";+sip.x, *;+g.y\r\n',
    b'Accept-Contact: *;+g.3gpp.icsi-ref="urn%3Aurn-7";require;explicit\r\nReject-Contact: *;video;audio="FALSE"\r\n',
    b"Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000\r\n",
    b'Reason: Q.850;cause=16;text="x, y", SIP;cause=200\r\nResource-Priority: ets.0, wps.4\r\n',
    b"P-Early-Media: supported, sendrecv, gated\r\nP-Asserted-Service: urn:urn-7:3gpp-service.ims.icsi.mmtel\r\n",
    b'Contact: <sip:a@x>;+g.3gpp.icsi-ref="urn%3Aurn-7%3Ax";+sip.instance="<urn:gsma:imei:1>";audio\r\n',
)
_TIMERS = (
    b"Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nSupported: timer, 100rel\r\n",
    b"x: 100\r\nMin-SE: 200;a=b\r\nk: timer\r\n",
)
_EVENTS = (
    b"refer;id=93809824",
    b"active;expires=3599;retry-after=10;reason=deactivated",
    b"<sip:c@x;method=INVITE?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2&User-to-User=56%3Bencoding%3Dhex>",
    b"SIP/2.0 180 Ringing\r\nTo: x\r\n",
)
_INFOS = (b"Signal=5\r\nDuration=160\r\n", b"Signal= *\nDuration = 99999\n", b"#", b"16", b"Signal=FLASH\r\n")
_SETTINGS = (
    b"<AgentProfile><Enabled>true</Enabled><Agent>default</Agent><Language>en</Language></AgentProfile>",
    b"<AgentProfile><Limits><ConcurrentCalls>2</ConcurrentCalls><CallSeconds>60</CallSeconds></Limits>"
    b"<Queue>sip:desk@x</Queue><Consent><Recording>1</Recording></Consent></AgentProfile>",
)
_REGINFO = (VECTORS / "isc" / "24-reg-event-notify.sip").read_bytes().split(b"\r\n\r\n", 1)[-1]
_ORDERS = (
    b'{"to": "sip:bob@example.net", "on_behalf_of": "tel:+15550100", "agent": "default", "ring_timeout_s": 30}',
    b'{"to": "tel:+15550199", "from": "sip:a@b", "headers": {"Subject": "x"}, "data": {"a": [1, null, {"b": 2.5}]}}',
)
_XML = (b"<!DOCTYPE a [<!ENTITY e 'x'>]>", b"&e;", b"<![CDATA[", b"]]>", b"<!--", b'xmlns="urn:x"', b"version=", b"</")
_JSON = (b"[", b"]", b"{", b"}", b"null", b"1e999", b"NaN", b"\\u0000", b"\\ud800", b"[" * 200)

IMS_TARGETS = (
    Target("ims-headers", read_headers, (SipParseError,), _LINES, SIP_TOKENS),
    Target("session-timer", read_timer, (SipParseError,), _TIMERS, SIP_TOKENS),
    Target("header-policy", apply_policy, (SipParseError,), MESSAGES, SIP_TOKENS),
    Target("preconditions", read_preconditions, (SdpError,), (SDPS[1],), (b"a=curr:qos ", b"a=des:qos ", b"mandatory")),
    Target("events", read_events, (SipParseError,), _EVENTS, SIP_TOKENS),
    Target("info", read_info, (), _INFOS, (b"Signal=", b"Duration=")),
    Target("reginfo", read_reginfo, (SipParseError,), (_REGINFO,), _XML),
    Target("service-settings", read_settings, (ValueError,), _SETTINGS, _XML),
    Target("profile-document", edit_settings, (ValueError, ProfileDocumentError), _SETTINGS, _XML),
    Target("order", read_order, (OrderError,), _ORDERS, _JSON),
)
