"""Every message that we send, as bytes: the table that foreign codecs are tried on.

`sent()` is built by the code that builds them in service: base commands by `BaseCommands`, Sh by the typed classes,
Cx and Sh answers by the lab's HSS. `complete()` is the notation itself: one message for each command of our
dictionaries with every AVP that its grammar names, so that a command or an AVP that is added later is tried as well.
"""

from __future__ import annotations

from typing import Any

from conformance.lab.hss_cx import CxService
from conformance.lab.subscribers import Subscriber
from diameter.avp import Avp, Avps
from diameter.base_commands import CX_APPLICATION, SH_APPLICATION, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import BASE, VENDOR_3GPP, DisconnectCause, ResultCode
from diameter.dictionary.cx import CX, ServerAssignmentType
from diameter.dictionary.loader import AvpDefinition, CommandDefinition, Dictionary
from diameter.dictionary.sh import SH, DataReference, ShResultCode
from diameter.errors import RemoteDiameterError
from diameter.message import FLAG_RETRANSMITTED, Message, Result, mark_retransmitted
from diameter.sh import messages as sh
from diameter.sh.userdata import RepositoryData, ShData, write_repository_data, write_sh_data
from diameter.types import AvpFormat, tbcd_from_digits

__all__ = ["DICTIONARIES", "HOP_BY_HOP", "complete", "dictionary_of", "sent"]

DICTIONARIES = (BASE, SH, CX)
HOP_BY_HOP, END_TO_END = 0x01020304, 0x0A0B0C0D
HOST, REALM = "as.ims.example", "ims.example"
IMPU, IMPI = "sip:alice@ims.example", "alice@ims.example"
SI = b"ai-voice-agent"
PROFILE = b"<AgentProfile><Enabled>true</Enabled></AgentProfile>"
IFCS = (
    b"<IFCs><InitialFilterCriteria><Priority>0</Priority><ApplicationServer><ServerName>sip:as.ims.example"
    b"</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria></IFCs>"
)
DOCUMENT = write_sh_data(
    ShData(
        public_identities=(IMPU, "tel:+4930123"),
        repository=(RepositoryData(SI, 3, PROFILE),),
        scscf_name="sip:scscf.ims.example",
        ifcs=IFCS,
        user_state=1,
    )
)
COMMANDS = BaseCommands(HOST, REALM, "ims-as", 0, 1_700_000_000, (SH_APPLICATION, CX_APPLICATION))


def dictionary_of(message: Message) -> Dictionary:
    """The dictionary that knows the message's command."""
    return next(d for d in (SH, CX) if d.find_command(message) is not None)


def sent() -> dict[str, bytes]:
    """Name → bytes."""
    messages: dict[str, Message] = _base_messages() | _sh_messages() | _cx_messages()
    frames = {
        name: message.with_ids(hop_by_hop=HOP_BY_HOP, end_to_end=END_TO_END).encode()
        for name, message in messages.items()
    }
    frames["UDR sent again (T)"] = mark_retransmitted(frames["UDR"], hop_by_hop=HOP_BY_HOP)
    assert frames["UDR sent again (T)"][4] & FLAG_RETRANSMITTED
    return frames


def complete() -> dict[str, bytes]:
    """Name → bytes."""
    return {
        f"{dictionary.name} {command.name} complete": _complete(dictionary, command).encode()
        for dictionary in DICTIONARIES
        for command in dictionary.commands.values()
        if command.application_id == dictionary.application_id
    }


def _base_messages() -> dict[str, Message]:
    cer, dwr, dpr = COMMANDS.cer("192.0.2.1"), COMMANDS.dwr(), COMMANDS.dpr(DisconnectCause.REBOOTING)
    udr = _udr().to_message()
    missing = RemoteDiameterError("AVP missing", ResultCode.MISSING_AVP, failed_avp=SH["Data-Reference"].avp(0))
    unsupported = RemoteDiameterError(
        "unknown AVP with M bit", ResultCode.AVP_UNSUPPORTED, failed_avp=SH["DSAI-Tag"].avp(b"x")
    )
    return {
        "CER": cer,
        "CER over IPv6": COMMANDS.cer("2001:db8::1"),
        "CEA": COMMANDS.cea(cer, "192.0.2.1", ResultCode.SUCCESS),
        "CEA refused": COMMANDS.cea(cer, "192.0.2.1", ResultCode.NO_COMMON_APPLICATION),
        "DWR": dwr,
        "DWA": COMMANDS.dwa(dwr),
        "DPR": dpr,
        "DPR busy": COMMANDS.dpr(DisconnectCause.BUSY),
        "DPA": COMMANDS.dpa(dpr),
        "UDA 3004": COMMANDS.error_answer(udr, RemoteDiameterError("too busy", ResultCode.TOO_BUSY)),
        "UDA 5005 with Failed-AVP": COMMANDS.error_answer(udr, missing),
        "UDA 5001 with Failed-AVP": COMMANDS.error_answer(udr, unsupported),
        "UDA redirect": udr.build_answer(
            [
                base.RESULT_CODE.avp(ResultCode.REDIRECT_INDICATION),
                *COMMANDS.identity(),
                BASE["Redirect-Host"].avp("aaa://hss2.ims.example:3868;transport=tcp"),
                BASE["Redirect-Host-Usage"].avp(1),
                BASE["Redirect-Max-Cache-Time"].avp(60),
            ],
            is_error=True,
        ),
    }


def _head() -> dict[str, Any]:
    return {"session_id": f"{HOST};1;2", "origin_host": HOST, "origin_realm": REALM}


def _request_head() -> dict[str, Any]:
    return _head() | {"destination_realm": REALM, "user_identity": sh.UserIdentity(public_identity=IMPU)}


def _udr(**more: Any) -> sh.UserDataRequest:
    values: dict[str, Any] = _request_head() | {
        "supported_features": (sh.SupportedFeatures(1),),
        "server_name": "sip:as.ims.example",
        "service_indications": (SI,),
        "data_references": tuple(DataReference(number) for number in (0, 13, 11, 12)),
    }
    return sh.UserDataRequest(**(values | more))


def _sh_messages() -> dict[str, Message]:
    udr = _udr().to_message()
    pur = sh.ProfileUpdateRequest(
        **_request_head(),
        destination_host="hss.ims.example",
        data_references=(DataReference.REPOSITORY_DATA,),
        user_data=write_repository_data(SI, 4, PROFILE),
    ).to_message()
    snr = sh.SubscribeNotificationsRequest(
        **_request_head(),
        supported_features=(sh.SupportedFeatures(1),),
        service_indications=(SI,),
        send_data_indication=1,
        data_references=(DataReference.REPOSITORY_DATA, DataReference.IMS_USER_STATE),
        expiry_time=1_800_000_000,
    ).to_message()
    pnr = sh.PushNotificationRequest(
        **_request_head(), destination_host="hss.ims.example", user_data=DOCUMENT
    ).to_message()
    unknown = Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP)
    answer = {"origin_host": "hss.ims.example", "origin_realm": REALM}
    return {
        "UDR": udr,
        "UDR by MSISDN": _udr(user_identity=sh.UserIdentity(msisdn="4930123")).to_message(),
        "UDA": sh.UserDataAnswer(**answer, supported_features=(sh.SupportedFeatures(1),), user_data=DOCUMENT).to_answer(
            udr
        ),
        "UDA 10415/5001": sh.UserDataAnswer(**answer, result=unknown).to_answer(udr),
        "PUR": pur,
        "PUA": sh.ProfileUpdateAnswer(
            **answer, repository_data_id=sh.RepositoryDataId(SI, 4), data_reference=DataReference.REPOSITORY_DATA
        ).to_answer(pur),
        "SNR": snr,
        "SNA": sh.SubscribeNotificationsAnswer(**answer, user_data=DOCUMENT, expiry_time=1_800_000_000).to_answer(snr),
        "PNR": pnr,
        "PNA": sh.PushNotificationAnswer(**answer).to_answer(pnr),
        "PNA 10415/5107": sh.PushNotificationAnswer(
            **answer, result=Result(ShResultCode.NO_SUBSCRIPTION_TO_DATA, VENDOR_3GPP)
        ).to_answer(pnr),
    }


def _cx_messages() -> dict[str, Message]:
    """Requests as an I-CSCF and an S-CSCF send them, answers by the lab's HSS."""
    alice = Subscriber(IMPI, (IMPU,), ifcs=IFCS, password="secret")
    service = CxService(
        {IMPU: alice}.get,
        lambda _: None,
        COMMANDS.identity,
        realm=REALM,
        scscf_name="sip:scscf.ims.example",
        new_nonce=lambda: bytes(range(16)),
    )
    head = [
        base.SESSION_ID.avp("cscf.ims.example;1;2"),
        CX_APPLICATION.avp(),
        base.AUTH_SESSION_STATE.avp(1),
        base.ORIGIN_HOST.avp("cscf.ims.example"),
        base.ORIGIN_REALM.avp(REALM),
        base.DESTINATION_REALM.avp(REALM),
        CX["Public-Identity"].avp(IMPU),
    ]
    user, server = base.USER_NAME.avp(IMPI), CX["Server-Name"].avp("sip:scscf.ims.example")

    def auth(scheme: str) -> list[Avp]:
        item = CX["SIP-Auth-Data-Item"].avp([CX["SIP-Authentication-Scheme"].avp(scheme)])
        return [user, item, CX["SIP-Number-Auth-Items"].avp(1), server]

    def assignment(kind: ServerAssignmentType) -> list[Avp]:
        return [
            user,
            server,
            CX["Server-Assignment-Type"].avp(kind),
            CX["User-Data-Already-Available"].avp(0),
        ]

    requests: dict[str, tuple[str, list[Avp]]] = {
        "first": ("UAR", [user, CX["Visited-Network-Identifier"].avp(b"ims.example")]),
        "unregistered": ("LIR", []),
        "digest": ("MAR", auth("SIP Digest")),
        "of Kamailio": ("MAR", auth("Digest-MD5")),
        "unknown scheme": ("MAR", auth("Early-IMS-Security")),
        "registration": ("SAR", assignment(ServerAssignmentType.REGISTRATION)),
        "registered": ("LIR", []),
        "subsequent": ("UAR", [user, CX["Visited-Network-Identifier"].avp(b"ims.example")]),
        "deregistration": ("SAR", assignment(ServerAssignmentType.USER_DEREGISTRATION)),
    }
    messages: dict[str, Message] = {}
    for title, (name, avps) in requests.items():
        request = CX.command(name).message([*head, *avps])
        messages[f"{name} {title}"] = request
        messages[f"{name[:-1]}A {title}"] = service.answer(request)
    return messages


_TEXTS = {
    "Session-Id": f"{HOST};1;2",
    "Public-Identity": IMPU,
    "Server-Name": "sip:as.ims.example",
    "Wildcarded-Public-Identity": "sip:!.*!@ims.example",
    "Wildcarded-IMPU": "sip:!.*!@ims.example",
    "External-Identifier": "alice@ims.example",
}
_OCTETS = {"MSISDN": tbcd_from_digits("4930123"), "User-Data": DOCUMENT}
# where a name of the value is expected by readers that know the specifications
_NUMBERS = {"Vendor-Id": VENDOR_3GPP, "Result-Code": 2001, "Experimental-Result-Code": 2001, "Feature-List-ID": 1}


def _complete(dictionary: Dictionary, command: CommandDefinition) -> Message:
    avps = [
        _sample(dictionary, rule.definition) for rule in command.rules for _ in range(2 if rule.maximum is None else 1)
    ]
    return Message(command.code, command.application_id, command.flags, Avps(avps), HOP_BY_HOP, END_TO_END)


def _sample(dictionary: Dictionary, definition: AvpDefinition) -> Avp:
    name = definition.name
    match definition.data_format:
        case AvpFormat.GROUPED:
            rules = dictionary.groups[definition.key]
            # a group whose members are anybody's (Failed-AVP) gets one, for none would be suspicious
            return definition.avp(
                [_sample(dictionary, rule.definition) for rule in rules] or [base.USER_NAME.avp(IMPI)]
            )
        case AvpFormat.ADDRESS:
            return definition.avp("192.0.2.1")
        case AvpFormat.OCTET_STRING:
            return definition.avp(_OCTETS.get(name, b"octets"))
        case AvpFormat.TIME:
            return definition.avp(1_800_000_000)
        case AvpFormat.DIAMETER_URI:
            return definition.avp("aaa://hss2.ims.example:3868;transport=tcp")
        case AvpFormat.DIAMETER_IDENTITY:
            return definition.avp("hss.ims.example")
        case AvpFormat.UTF8_STRING | AvpFormat.IP_FILTER_RULE:
            return definition.avp(_TEXTS.get(name, "text"))
        case _:
            application = dictionary.application_id or SH_APPLICATION.application_id
            number = application if name.endswith("Application-Id") else _NUMBERS.get(name, 1)
            return definition.avp(number)
