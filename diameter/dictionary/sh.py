"""Sh: AVPs and commands of TS 29.329 (application 16777217, vendor 10415)."""

from __future__ import annotations

from enum import IntEnum, IntFlag

from diameter.dictionary.base import BASE, VENDOR_3GPP
from diameter.dictionary.loader import load_dictionary

__all__ = [
    "FEATURE_NOTIF_EFF",
    "FEATURE_UPDATE_EFF",
    "SH",
    "SH_APPLICATION_ID",
    "CurrentLocation",
    "DataReference",
    "IdentitySet",
    "OneTimeNotification",
    "RequestedDomain",
    "RequestedNodes",
    "SendDataIndication",
    "ShResultCode",
    "SubsReqType",
    "UdrFlags",
]

SH_APPLICATION_ID = 16777217

# Feature-List of Feature-List-ID 1 (TS 29.329 §7.1.1)
FEATURE_NOTIF_EFF = 1 << 0
FEATURE_UPDATE_EFF = 1 << 1
FEATURE_UPDATE_EFF_ENHANCE = 1 << 2
FEATURE_ADDITIONAL_MSISDN = 1 << 3


class DataReference(IntEnum):
    """TS 29.328 Table 7.6.1; 20 is reserved. What an AS may do with each is in `diameter.sh.data_reference`."""

    REPOSITORY_DATA = 0
    IMS_PUBLIC_IDENTITY = 10
    IMS_USER_STATE = 11
    S_CSCF_NAME = 12
    INITIAL_FILTER_CRITERIA = 13
    LOCATION_INFORMATION = 14
    USER_STATE = 15
    CHARGING_INFORMATION = 16
    MSISDN = 17
    PSI_ACTIVATION = 18
    DSAI = 19
    SERVICE_LEVEL_TRACE_INFO = 21
    IP_ADDRESS_SECURE_BINDING_INFORMATION = 22
    SERVICE_PRIORITY_LEVEL = 23
    SMS_REGISTRATION_INFO = 24
    UE_REACHABILITY_FOR_IP = 25
    TADS_INFORMATION = 26
    STN_SR = 27
    UE_SRVCC_CAPABILITY = 28
    EXTENDED_PRIORITY = 29
    CSRN = 30
    REFERENCE_LOCATION_INFORMATION = 31
    IMSI = 32
    IMS_PRIVATE_USER_IDENTITY = 33
    IMEISV = 34
    UE_5G_SRVCC_CAPABILITY = 35


class RequestedDomain(IntEnum):
    """TS 29.329 §6.3.7."""

    CS = 0
    PS = 1


class CurrentLocation(IntEnum):
    """TS 29.329 §6.3.8."""

    DO_NOT_NEED_INITIATE_ACTIVE_LOCATION_RETRIEVAL = 0
    INITIATE_ACTIVE_LOCATION_RETRIEVAL = 1


class SendDataIndication(IntEnum):
    """TS 29.329 §6.3.17."""

    USER_DATA_NOT_REQUESTED = 0
    USER_DATA_REQUESTED = 1


class OneTimeNotification(IntEnum):
    """TS 29.329 §6.3.22: the AVP present asks for it."""

    REQUESTED = 0


class RequestedNodes(IntFlag):
    """TS 29.329 §6.3.7A."""

    MME = 1 << 0
    SGSN = 1 << 1
    TGPP_AAA_SERVER_TWAN = 1 << 2
    AMF = 1 << 3


class UdrFlags(IntFlag):
    """TS 29.329 §6.3.28."""

    LOCATION_INFORMATION_EPS_SUPPORTED = 1 << 0
    RAT_TYPE_REQUESTED = 1 << 1


class IdentitySet(IntEnum):
    """TS 29.329 §6.3.10."""

    ALL_IDENTITIES = 0
    REGISTERED_IDENTITIES = 1
    IMPLICIT_IDENTITIES = 2
    ALIAS_IDENTITIES = 3


class SubsReqType(IntEnum):
    """TS 29.329 §6.3.6."""

    SUBSCRIBE = 0
    UNSUBSCRIBE = 1


class ShResultCode(IntEnum):
    """Experimental-Result-Code values of vendor 10415 (TS 29.329 §6.2)."""

    USER_DATA_NOT_AVAILABLE = 4100
    PRIOR_UPDATE_IN_PROGRESS = 4101
    USER_UNKNOWN = 5001
    IDENTITIES_DONT_MATCH = 5002
    TOO_MUCH_DATA = 5008
    FEATURE_UNSUPPORTED = 5011
    USER_DATA_NOT_RECOGNIZED = 5100
    OPERATION_NOT_ALLOWED = 5101
    USER_DATA_CANNOT_BE_READ = 5102
    USER_DATA_CANNOT_BE_MODIFIED = 5103
    USER_DATA_CANNOT_BE_NOTIFIED = 5104
    TRANSPARENT_DATA_OUT_OF_SYNC = 5105
    SUBS_DATA_ABSENT = 5106
    NO_SUBSCRIPTION_TO_DATA = 5107
    DSAI_NOT_AVAILABLE = 5108


_ROWS = """
601 Public-Identity UTF8String must
602 Server-Name UTF8String must
628 Supported-Features Grouped may
629 Feature-List-ID Unsigned32 mustnot
630 Feature-List Unsigned32 mustnot
631 Supported-Applications Grouped mustnot
634 Wildcarded-Public-Identity UTF8String mustnot
636 Wildcarded-IMPU UTF8String mustnot
650 Session-Priority Enumerated mustnot
700 User-Identity Grouped must
701 MSISDN OctetString must
702 User-Data OctetString must
703 Data-Reference Enumerated must
704 Service-Indication OctetString must
705 Subs-Req-Type Enumerated must
706 Requested-Domain Enumerated must
707 Current-Location Enumerated must
708 Identity-Set Enumerated mustnot
709 Expiry-Time Time mustnot
710 Send-Data-Indication Enumerated mustnot
711 DSAI-Tag OctetString must
712 One-Time-Notification Enumerated mustnot
713 Requested-Nodes Unsigned32 mustnot
714 Serving-Node-Indication Enumerated mustnot
715 Repository-Data-ID Grouped mustnot
716 Sequence-Number Unsigned32 mustnot
717 Pre-paging-Supported Enumerated mustnot
718 Local-Time-Zone-Indication Enumerated mustnot
719 UDR-Flags Unsigned32 mustnot
720 Call-Reference-Info Grouped mustnot
721 Call-Reference-Number OctetString mustnot
722 AS-Number OctetString mustnot
3111 External-Identifier UTF8String must
"""

_NOTATION = """
<Supported-Features> ::= < AVP Header: 628 10415 > { Vendor-Id } { Feature-List-ID } { Feature-List } * [ AVP ]
<Supported-Applications> ::= < AVP Header: 631 10415 >
    * [ Auth-Application-Id ] * [ Acct-Application-Id ] * [ Vendor-Specific-Application-Id ] * [ AVP ]
<User-Identity> ::= < AVP Header: 700 10415 > [ Public-Identity ] [ MSISDN ] [ External-Identifier ] * [ AVP ]
<Repository-Data-ID> ::= < AVP Header: 715 10415 > { Service-Indication } { Sequence-Number } * [ AVP ]
<Call-Reference-Info> ::= < AVP Header: 720 10415 > { Call-Reference-Number } { AS-Number } * [ AVP ]

<UDR> ::= < Diameter Header: 306, REQ, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    [ Destination-Host ] { Destination-Realm } * [ Supported-Features ] { User-Identity }
    [ Wildcarded-Public-Identity ] [ Wildcarded-IMPU ] [ Server-Name ] * [ Service-Indication ] * { Data-Reference }
    * [ Identity-Set ] [ Requested-Domain ] [ Current-Location ] * [ DSAI-Tag ] [ Session-Priority ] [ User-Name ]
    [ Requested-Nodes ] [ Serving-Node-Indication ] [ Pre-paging-Supported ] [ Local-Time-Zone-Indication ]
    [ UDR-Flags ] [ Call-Reference-Info ] [ OC-Supported-Features ] * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
<UDA> ::= < Diameter Header: 306, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } * [ Supported-Features ] [ Wildcarded-Public-Identity ]
    [ Wildcarded-IMPU ] [ User-Data ] [ OC-Supported-Features ] [ OC-OLR ] * [ Load ] * [ Failed-AVP ]
    * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
<PUR> ::= < Diameter Header: 307, REQ, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    [ Destination-Host ] { Destination-Realm } * [ Supported-Features ] { User-Identity }
    [ Wildcarded-Public-Identity ] [ Wildcarded-IMPU ] [ User-Name ] * { Data-Reference } { User-Data }
    [ OC-Supported-Features ] * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
<PUA> ::= < Diameter Header: 307, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } [ Wildcarded-Public-Identity ] [ Wildcarded-IMPU ]
    [ Repository-Data-ID ] [ Data-Reference ] * [ Supported-Features ] [ OC-Supported-Features ] [ OC-OLR ]
    * [ Load ] * [ Failed-AVP ] * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
<SNR> ::= < Diameter Header: 308, REQ, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    [ Destination-Host ] { Destination-Realm } * [ Supported-Features ] { User-Identity }
    [ Wildcarded-Public-Identity ] [ Wildcarded-IMPU ] * [ Service-Indication ] [ Send-Data-Indication ]
    [ Server-Name ] { Subs-Req-Type } * { Data-Reference } * [ Identity-Set ] [ Expiry-Time ] * [ DSAI-Tag ]
    [ One-Time-Notification ] [ User-Name ] [ OC-Supported-Features ] * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
<SNA> ::= < Diameter Header: 308, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } { Auth-Session-State } [ Result-Code ]
    [ Experimental-Result ] { Origin-Host } { Origin-Realm } [ Wildcarded-Public-Identity ] [ Wildcarded-IMPU ]
    [ User-Data ] [ Expiry-Time ] * [ Supported-Features ] [ OC-Supported-Features ] [ OC-OLR ] * [ Load ]
    * [ Failed-AVP ] * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
<PNR> ::= < Diameter Header: 309, REQ, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    { Destination-Host } { Destination-Realm } * [ Supported-Features ] { User-Identity }
    [ Wildcarded-Public-Identity ] [ Wildcarded-IMPU ] [ User-Name ] { User-Data } * [ Proxy-Info ]
    * [ Route-Record ] * [ AVP ]
<PNA> ::= < Diameter Header: 309, PXY, 16777217 >
    < Session-Id > [ DRMP ] { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } * [ Supported-Features ] * [ Failed-AVP ]
    * [ Proxy-Info ] * [ Route-Record ] * [ AVP ]
"""

SH = load_dictionary(
    "Sh", application_id=SH_APPLICATION_ID, vendor=VENDOR_3GPP, rows=_ROWS, notation=_NOTATION, includes=(BASE,)
)
