"""Well-formed Diameter messages and Sh documents to start from."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from diameter.avp import Avp, Avps
from diameter.base_commands import CX_APPLICATION, SH_APPLICATION, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import BASE, DisconnectCause
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, SH
from diameter.errors import RemoteDiameterError
from diameter.message import FLAG_RETRANSMITTED, Message, Result
from diameter.overload import ReportType, report_avps
from diameter.sh.messages import (
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    PushNotificationAnswer,
    PushNotificationRequest,
    RepositoryDataId,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)

__all__ = [
    "AGENT_MESSAGES",
    "BASE_MESSAGES",
    "CAPABILITIES",
    "DIAMETER_TOKENS",
    "IFCS",
    "SH_DATA",
    "SH_MESSAGES",
    "XML_TOKENS",
]

BOB = "sip:bob@example.net"
IFCS = b"""<IFCs><InitialFilterCriteria><Priority>0</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT>
<SPT><ConditionNegated>0</ConditionNegated><Group>1</Group><SessionCase>1</SessionCase></SPT></TriggerPoint>
<ApplicationServer><ServerName>sip:as.example.net</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer>
</InitialFilterCriteria></IFCs>"""
_ITEM = b"""<RepositoryData><ServiceIndication>ai</ServiceIndication><SequenceNumber>3</SequenceNumber>
<ServiceData><AgentProfile xmlns="urn:x:1"><Enabled>true</Enabled></AgentProfile></ServiceData></RepositoryData>"""
SH_DATA = (
    b'<?xml version="1.0" encoding="UTF-8"?><Sh-Data>'
    b"<PublicIdentifiers><IMSPublicIdentity>sip:bob@example.net</IMSPublicIdentity><MSISDN>15550100</MSISDN>"
    b"</PublicIdentifiers>"
    + _ITEM
    + b"<Sh-IMS-Data><SCSCFName>sip:s.example.net</SCSCFName>"
    + IFCS
    + b"<IMSUserState>"
    b"1</IMSUserState><ChargingInformation><PrimaryChargingCollectionFunctionName>aaa://c:3868"
    b"</PrimaryChargingCollectionFunctionName></ChargingInformation><Extension><PSIActivation>1</PSIActivation>"
    b"<Extension><DSAI><DSAI-Tag>t</DSAI-Tag><DSAI-Value>1</DSAI-Value></DSAI></Extension></Extension></Sh-IMS-Data>"
    b"<Extension><AliasIdentities><IMSPublicIdentity>tel:+15550100</IMSPublicIdentity></AliasIdentities><Extension>"
    b"<DeletedIdentities><IMSPublicIdentity>sip:old@example.net</IMSPublicIdentity></DeletedIdentities></Extension>"
    b"</Extension></Sh-Data>",
    b"<Sh-Data>" + _ITEM + b"</Sh-Data>",
    b"<Sh-Data><IMSPrivateUserIdentity>1@x</IMSPrivateUserIdentity><Sh-IMS-Data><S-CSCFName>sip:s</S-CSCFName>"
    b"<IMSUserState>0</IMSUserState><InboundCommunicationBarred>0</InboundCommunicationBarred></Sh-IMS-Data></Sh-Data>",
)
XML_TOKENS: tuple[bytes, ...] = (
    b"<!DOCTYPE a [<!ENTITY e 'x'>]>",
    b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>",
    b"&e;",
    b"&#0;",
    b"&#x10FFFF;",
    b"&amp;",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<?x ?>",
    b"<a>",
    b"</a>",
    b"<a/>" * 50,
    b"<a>" * 60,
    b"xmlns='u'",
    b"xmlns:p='u'",
    b"<p:",
    b"<Extension>",
    b"</Extension>",
    b"65535",
    b"65536",
    b"encoding='UTF-16'",
    b"\xfe\xff",
)
DIAMETER_TOKENS: tuple[bytes, ...] = (
    b"\0\0\0\0",
    b"\0\0\0\1",
    b"\0\0\0\x08",
    b"\0\0\0\x07",
    b"\0\0\0\x0c",
    b"\x40\0\0\x0c",
    b"\xc0\0\0\x0c",
    b"\xc0\0\0\x10",
    b"\xff\xff\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\x01\x0c\x40\0\0\x0c\0\0\x07\xd1",  # Result-Code 2001
    b"\0\0\x01\x0c\x40\0\0\x0c\0\0\x0b\xbc",  # Result-Code 3004
    b"\0\0\x01\x16\x40\0\0\x0c\0\0\x00\x01",  # Origin-State-Id 1
    b"\0\0\x28\xaf",
    b"\0\0\x02\xbc\xc0\0\0\x0c\0\0\x28\xaf",  # User-Identity, empty
    b"\0\0\x13\x88\x40\0\0\x08",  # unknown AVP with M
    b"\x01\x00\x00\x14",
    b"\x01\xff\xff\xfc",
)
_HEAD: dict[str, Any] = {"session_id": "as;1;2", "origin_host": "as.example.net", "origin_realm": "example.net"}
_ASK: dict[str, Any] = _HEAD | {"destination_realm": "example.net", "user_identity": UserIdentity(BOB)}
_OF_HSS: dict[str, Any] = {"origin_host": "hss.example.net", "origin_realm": "example.net"}
_FEATURES = (SupportedFeatures(FEATURE_NOTIF_EFF),)
_UDR = UserDataRequest(
    **_ASK,
    supported_features=_FEATURES,
    server_name="sip:as.example.net",
    service_indications=(b"ai",),
    data_references=(0, 13, 11, 12),
    identity_sets=(3,),
)
_PUR = ProfileUpdateRequest(**_ASK, data_references=(0,), user_data=SH_DATA[1], user_name="1@example.net")
_SNR = SubscribeNotificationsRequest(
    **_ASK | {"user_identity": UserIdentity(msisdn="155501001")},
    service_indications=(b"ai",),
    send_data_indication=1,
    data_references=(0, 11),
    expiry_time=1_800_000_000,
)
_PNR = PushNotificationRequest(
    session_id="hss;1;1",
    **_OF_HSS,
    destination_host="as.example.net",
    destination_realm="example.net",
    user_identity=UserIdentity(BOB),
    user_data=SH_DATA[1],
)


def _ids(message: Message, number: int) -> Message:
    return message.with_ids(hop_by_hop=number, end_to_end=0x5550000 + number)


def _sh_messages() -> list[Message]:
    requests = [each.to_message() for each in (_UDR, _PUR, _SNR, _PNR)]
    udr, pur, snr, pnr = requests
    unknown = Result(5001, 10415)
    answers = [
        UserDataAnswer(**_OF_HSS, supported_features=_FEATURES, user_data=SH_DATA[0]).to_answer(udr),
        UserDataAnswer(**_OF_HSS, user_data=SH_DATA[2]).to_answer(udr),
        UserDataAnswer(**_OF_HSS, result=unknown).to_answer(udr),
        UserDataAnswer(**_OF_HSS, result=Result(5102, 10415)).to_answer(udr),
        ProfileUpdateAnswer(**_OF_HSS, repository_data_id=RepositoryDataId(b"ai", 4)).to_answer(pur),
        ProfileUpdateAnswer(**_OF_HSS, result=Result(5105, 10415), data_reference=0).to_answer(pur),
        SubscribeNotificationsAnswer(**_OF_HSS, user_data=SH_DATA[1], expiry_time=1_800_000_000).to_answer(snr),
        PushNotificationAnswer(**_HEAD).to_answer(pnr),
    ]
    return [_ids(message, number) for number, message in enumerate([*requests, *answers])]


def _base_messages() -> list[Message]:
    hss = BaseCommands("hss.example.net", "example.net", "hss", 10415, 7, (SH_APPLICATION, CX_APPLICATION))
    cer, dwr, dpr = hss.cer("127.0.0.10"), hss.dwr(), hss.dpr(DisconnectCause.BUSY)
    grouped = [base.VENDOR_ID.avp(10415), Avp(999, b"deep", 10415, 0x40)]
    strange = Message(
        SH.command("PNR").code,
        SH.application_id,
        0x80 | FLAG_RETRANSMITTED,
        type(cer.avps)(
            [*_PNR.to_message().avps, Avp(9999, b"x", 0, 0x40), base.FAILED_AVP.avp([base.FAILED_AVP.avp(grouped)])]
        ),
    )
    busy = hss.error_answer(_UDR.to_message(), RemoteDiameterError("busy", 3004))
    messages = [cer, hss.cea(cer, "::1", 2001), dwr, hss.dwa(dwr), dpr, hss.dpa(dpr), strange, busy]
    return [_ids(message, 20 + number) for number, message in enumerate(messages)]


def _agent_messages() -> list[Message]:
    """What agents and busy hosts put into answers: redirects, overload reports."""
    uris = ("aaa://hss2.example.net:3868;transport=tcp", "aaas://[::1]:5658", "aaa://hss3.example.net")
    redirect = [
        *(BASE["Redirect-Host"].avp(uri) for uri in uris),
        BASE["Redirect-Host-Usage"].avp(3),
        BASE["Redirect-Max-Cache-Time"].avp(60),
    ]
    identity = [base.ORIGIN_HOST.avp("dra.example.net"), base.ORIGIN_REALM.avp("example.net")]
    udr = _UDR.to_message()
    told = [udr.build_answer([base.RESULT_CODE.avp(3006), *identity, *redirect], is_error=True)]
    for kind, reduction, validity_s in ((ReportType.HOST, 30, 10), (ReportType.REALM, 100, None)):
        report = report_avps(sequence=7, kind=kind, reduction=reduction, validity_s=validity_s)
        answer = UserDataAnswer(**_OF_HSS, user_data=SH_DATA[0]).to_answer(udr)
        told.append(evolve(answer, avps=Avps([*answer.avps, *report])))
    return [_ids(message, 40 + number) for number, message in enumerate(told)]


SH_MESSAGES = tuple(message.encode() for message in _sh_messages())
BASE_MESSAGES = tuple(message.encode() for message in _base_messages())
AGENT_MESSAGES = tuple(message.encode() for message in _agent_messages())
CAPABILITIES = BASE_MESSAGES[:2]
