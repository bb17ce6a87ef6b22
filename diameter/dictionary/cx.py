"""Cx: AVPs and commands of TS 29.228/29.229 that a lab HSS answers (application 16777216, vendor 10415).

User-Data is 606 here, 702 on Sh. SIP Digest (RFC 4740, RFC 5090 AVPs) sits inside SIP-Digest-Authenticate.
"""

from __future__ import annotations

from enum import IntEnum

from diameter.dictionary.base import BASE, VENDOR_3GPP
from diameter.dictionary.loader import load_dictionary

__all__ = ["CX", "CX_APPLICATION_ID", "CxResultCode", "ServerAssignmentType"]

CX_APPLICATION_ID = 16777216


class ServerAssignmentType(IntEnum):
    """TS 29.229 §6.3.15."""

    NO_ASSIGNMENT = 0
    REGISTRATION = 1
    RE_REGISTRATION = 2
    UNREGISTERED_USER = 3
    TIMEOUT_DEREGISTRATION = 4
    USER_DEREGISTRATION = 5
    TIMEOUT_DEREGISTRATION_STORE_SERVER_NAME = 6
    USER_DEREGISTRATION_STORE_SERVER_NAME = 7
    ADMINISTRATIVE_DEREGISTRATION = 8
    AUTHENTICATION_FAILURE = 9
    AUTHENTICATION_TIMEOUT = 10
    DEREGISTRATION_TOO_MUCH_DATA = 11


class CxResultCode(IntEnum):
    """Experimental-Result-Code values of vendor 10415 (TS 29.229 §6.2)."""

    FIRST_REGISTRATION = 2001
    SUBSEQUENT_REGISTRATION = 2002
    UNREGISTERED_SERVICE = 2003
    USER_UNKNOWN = 5001
    IDENTITIES_DONT_MATCH = 5002
    IDENTITY_NOT_REGISTERED = 5003
    AUTH_SCHEME_NOT_SUPPORTED = 5006


_ROWS = """
600 Visited-Network-Identifier OctetString must
601 Public-Identity UTF8String must
602 Server-Name UTF8String must
603 Server-Capabilities Grouped must
604 Mandatory-Capability Unsigned32 must
605 Optional-Capability Unsigned32 must
606 User-Data OctetString must
607 SIP-Number-Auth-Items Unsigned32 must
608 SIP-Authentication-Scheme UTF8String must
609 SIP-Authenticate OctetString must
610 SIP-Authorization OctetString must
611 SIP-Authentication-Context OctetString must
612 SIP-Auth-Data-Item Grouped must
613 SIP-Item-Number Unsigned32 must
614 Server-Assignment-Type Enumerated must
618 Charging-Information Grouped must
619 Primary-Event-Charging-Function-Name DiameterURI must
621 Primary-Charging-Collection-Function-Name DiameterURI must
623 User-Authorization-Type Enumerated must
624 User-Data-Already-Available Enumerated must
628 Supported-Features Grouped may
629 Feature-List-ID Unsigned32 mustnot
630 Feature-List Unsigned32 mustnot
635 SIP-Digest-Authenticate Grouped mustnot
648 Multiple-Registration-Indication Enumerated mustnot
632 Associated-Identities Grouped mustnot
634 Wildcarded-Public-Identity UTF8String mustnot
639 SCSCF-Restoration-Info Grouped mustnot
"""

_DIGEST_ROWS = """
104 Digest-Realm UTF8String must
110 Digest-QoP UTF8String must
111 Digest-Algorithm UTF8String must
121 Digest-HA1 UTF8String must
"""

_NOTATION = """
<Server-Capabilities> ::= < AVP Header: 603 10415 >
    * [ Mandatory-Capability ] * [ Optional-Capability ] * [ Server-Name ] * [ AVP ]
<SIP-Auth-Data-Item> ::= < AVP Header: 612 10415 >
    [ SIP-Item-Number ] [ SIP-Authentication-Scheme ] [ SIP-Authenticate ] [ SIP-Authorization ]
    [ SIP-Authentication-Context ] [ SIP-Digest-Authenticate ] * [ AVP ]
<SIP-Digest-Authenticate> ::= < AVP Header: 635 10415 >
    { Digest-Realm } [ Digest-Algorithm ] [ Digest-QoP ] { Digest-HA1 } * [ AVP ]
<Charging-Information> ::= < AVP Header: 618 10415 >
    [ Primary-Event-Charging-Function-Name ] [ Primary-Charging-Collection-Function-Name ] * [ AVP ]
<Supported-Features> ::= < AVP Header: 628 10415 > { Vendor-Id } { Feature-List-ID } { Feature-List } * [ AVP ]
<Associated-Identities> ::= < AVP Header: 632 10415 > * [ User-Name ] * [ AVP ]
<SCSCF-Restoration-Info> ::= < AVP Header: 639 10415 > * [ AVP ]

<UAR> ::= < Diameter Header: 300, REQ, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    [ Destination-Host ] { Destination-Realm } { User-Name } * [ Supported-Features ] { Public-Identity }
    { Visited-Network-Identifier } [ User-Authorization-Type ] * [ AVP ]
<UAA> ::= < Diameter Header: 300, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } * [ Supported-Features ] [ Server-Name ]
    [ Server-Capabilities ] * [ AVP ]
<SAR> ::= < Diameter Header: 301, REQ, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    [ Destination-Host ] { Destination-Realm } [ User-Name ] * [ Supported-Features ] * [ Public-Identity ]
    [ Wildcarded-Public-Identity ] { Server-Name } { Server-Assignment-Type } { User-Data-Already-Available }
    [ SCSCF-Restoration-Info ] [ Multiple-Registration-Indication ] * [ AVP ]
<SAA> ::= < Diameter Header: 301, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } [ User-Name ] * [ Supported-Features ] [ User-Data ]
    [ Charging-Information ] [ Associated-Identities ] * [ AVP ]
<LIR> ::= < Diameter Header: 302, REQ, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    [ Destination-Host ] { Destination-Realm } * [ Supported-Features ] { Public-Identity }
    [ User-Authorization-Type ] * [ AVP ]
<LIA> ::= < Diameter Header: 302, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } * [ Supported-Features ] [ Server-Name ]
    [ Server-Capabilities ] * [ AVP ]
<MAR> ::= < Diameter Header: 303, REQ, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } { Auth-Session-State } { Origin-Host } { Origin-Realm }
    { Destination-Realm } [ Destination-Host ] { User-Name } * [ Supported-Features ] { Public-Identity }
    { SIP-Auth-Data-Item } { SIP-Number-Auth-Items } { Server-Name } * [ AVP ]
<MAA> ::= < Diameter Header: 303, PXY, 16777216 >
    < Session-Id > { Vendor-Specific-Application-Id } [ Result-Code ] [ Experimental-Result ]
    { Auth-Session-State } { Origin-Host } { Origin-Realm } [ User-Name ] * [ Supported-Features ]
    [ Public-Identity ] [ SIP-Number-Auth-Items ] * [ SIP-Auth-Data-Item ] * [ AVP ]
"""

CX = load_dictionary(
    "Cx",
    application_id=CX_APPLICATION_ID,
    vendor=VENDOR_3GPP,
    rows=_ROWS,
    notation=_NOTATION,
    includes=(BASE,),
    foreign_rows={0: _DIGEST_ROWS},
)
