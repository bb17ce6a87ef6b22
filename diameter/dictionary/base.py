"""Base protocol: the AVPs and commands of RFC 6733 that a client and a server of Sh and Cx meet.

Result codes are `ResultCode`. DRMP, overload and load AVPs (RFC 7944, 7683, 8583) are known so that a peer may send
them; we send them without M.
"""

from __future__ import annotations

from enum import IntEnum

from diameter.dictionary.loader import load_dictionary

__all__ = ["BASE", "RELAY_APPLICATION_ID", "VENDOR_3GPP", "DisconnectCause", "ResultCode"]

VENDOR_3GPP = 10415
RELAY_APPLICATION_ID = 0xFFFFFFFF


class ResultCode(IntEnum):
    """RFC 6733 §7.1, the codes that matter here."""

    SUCCESS = 2001
    LIMITED_SUCCESS = 2002
    COMMAND_UNSUPPORTED = 3001
    UNABLE_TO_DELIVER = 3002
    REALM_NOT_SERVED = 3003
    TOO_BUSY = 3004
    LOOP_DETECTED = 3005
    REDIRECT_INDICATION = 3006
    APPLICATION_UNSUPPORTED = 3007
    INVALID_HDR_BITS = 3008
    INVALID_AVP_BITS = 3009
    UNKNOWN_PEER = 3010
    OUT_OF_SPACE = 4002
    ELECTION_LOST = 4003
    AVP_UNSUPPORTED = 5001
    UNKNOWN_SESSION_ID = 5002
    INVALID_AVP_VALUE = 5004
    MISSING_AVP = 5005
    RESOURCES_EXCEEDED = 5006
    AVP_NOT_ALLOWED = 5008
    AVP_OCCURS_TOO_MANY_TIMES = 5009
    NO_COMMON_APPLICATION = 5010
    UNSUPPORTED_VERSION = 5011
    UNABLE_TO_COMPLY = 5012
    INVALID_AVP_LENGTH = 5014
    INVALID_MESSAGE_LENGTH = 5015
    NO_COMMON_SECURITY = 5017


class DisconnectCause(IntEnum):
    """RFC 6733 §5.4.3."""

    REBOOTING = 0
    BUSY = 1
    DO_NOT_WANT_TO_TALK_TO_YOU = 2


_ROWS = """
1 User-Name UTF8String must
33 Proxy-State OctetString must
55 Event-Timestamp Time must
257 Host-IP-Address Address must
258 Auth-Application-Id Unsigned32 must
259 Acct-Application-Id Unsigned32 must
260 Vendor-Specific-Application-Id Grouped must
261 Redirect-Host-Usage Enumerated must
262 Redirect-Max-Cache-Time Unsigned32 must
263 Session-Id UTF8String must
264 Origin-Host DiameterIdentity must
265 Supported-Vendor-Id Unsigned32 must
266 Vendor-Id Unsigned32 must
267 Firmware-Revision Unsigned32 mustnot
268 Result-Code Unsigned32 must
269 Product-Name UTF8String mustnot
273 Disconnect-Cause Enumerated must
277 Auth-Session-State Enumerated must
278 Origin-State-Id Unsigned32 must
279 Failed-AVP Grouped must
280 Proxy-Host DiameterIdentity must
281 Error-Message UTF8String mustnot
282 Route-Record DiameterIdentity must
283 Destination-Realm DiameterIdentity must
284 Proxy-Info Grouped must
291 Authorization-Lifetime Unsigned32 must
292 Redirect-Host DiameterURI must
293 Destination-Host DiameterIdentity must
294 Error-Reporting-Host DiameterIdentity mustnot
295 Termination-Cause Enumerated must
296 Origin-Realm DiameterIdentity must
297 Experimental-Result Grouped must
298 Experimental-Result-Code Unsigned32 must
299 Inband-Security-Id Unsigned32 must
301 DRMP Enumerated mustnot
480 Accounting-Record-Type Enumerated must
485 Accounting-Record-Number Unsigned32 must
621 OC-Supported-Features Grouped mustnot
622 OC-Feature-Vector Unsigned64 mustnot
623 OC-OLR Grouped mustnot
624 OC-Sequence-Number Unsigned64 mustnot
625 OC-Validity-Duration Unsigned32 mustnot
626 OC-Report-Type Enumerated mustnot
627 OC-Reduction-Percentage Unsigned32 mustnot
649 SourceID DiameterIdentity mustnot
650 Load Grouped mustnot
651 Load-Type Enumerated mustnot
652 Load-Value Unsigned64 mustnot
"""

_NOTATION = """
<Vendor-Specific-Application-Id> ::= < AVP Header: 260 >
    { Vendor-Id } [ Auth-Application-Id ] [ Acct-Application-Id ]
<Failed-AVP> ::= < AVP Header: 279 > * [ AVP ]
<Proxy-Info> ::= < AVP Header: 284 > { Proxy-Host } { Proxy-State } * [ AVP ]
<Experimental-Result> ::= < AVP Header: 297 > { Vendor-Id } { Experimental-Result-Code }
<OC-Supported-Features> ::= < AVP Header: 621 > [ OC-Feature-Vector ] * [ AVP ]
<OC-OLR> ::= < AVP Header: 623 > [ OC-Sequence-Number ] [ OC-Report-Type ] [ OC-Reduction-Percentage ]
    [ OC-Validity-Duration ] * [ AVP ]
<Load> ::= < AVP Header: 650 > [ Load-Type ] [ Load-Value ] [ SourceID ] * [ AVP ]

<CER> ::= < Diameter Header: 257, REQ >
    { Origin-Host } { Origin-Realm } 1* { Host-IP-Address } { Vendor-Id } { Product-Name } [ Origin-State-Id ]
    * [ Supported-Vendor-Id ] * [ Auth-Application-Id ] * [ Inband-Security-Id ] * [ Acct-Application-Id ]
    * [ Vendor-Specific-Application-Id ] [ Firmware-Revision ] * [ AVP ]
<CEA> ::= < Diameter Header: 257 >
    { Result-Code } { Origin-Host } { Origin-Realm } 1* { Host-IP-Address } { Vendor-Id } { Product-Name }
    [ Origin-State-Id ] [ Error-Message ] [ Failed-AVP ] * [ Supported-Vendor-Id ] * [ Auth-Application-Id ]
    * [ Inband-Security-Id ] * [ Acct-Application-Id ] * [ Vendor-Specific-Application-Id ] [ Firmware-Revision ]
    * [ AVP ]
<DPR> ::= < Diameter Header: 282, REQ > { Origin-Host } { Origin-Realm } { Disconnect-Cause } * [ AVP ]
<DPA> ::= < Diameter Header: 282 >
    { Result-Code } { Origin-Host } { Origin-Realm } [ Error-Message ] [ Failed-AVP ] * [ AVP ]
<DWR> ::= < Diameter Header: 280, REQ > { Origin-Host } { Origin-Realm } [ Origin-State-Id ] * [ AVP ]
<DWA> ::= < Diameter Header: 280 >
    { Result-Code } { Origin-Host } { Origin-Realm } [ Error-Message ] [ Failed-AVP ] [ Origin-State-Id ] * [ AVP ]
"""

BASE = load_dictionary("base", application_id=0, vendor=0, rows=_ROWS, notation=_NOTATION)

USER_NAME = BASE["User-Name"]
HOST_IP_ADDRESS = BASE["Host-IP-Address"]
AUTH_APPLICATION_ID = BASE["Auth-Application-Id"]
ACCT_APPLICATION_ID = BASE["Acct-Application-Id"]
VENDOR_SPECIFIC_APPLICATION_ID = BASE["Vendor-Specific-Application-Id"]
SESSION_ID = BASE["Session-Id"]
ORIGIN_HOST = BASE["Origin-Host"]
INBAND_SECURITY_ID = BASE["Inband-Security-Id"]
SUPPORTED_VENDOR_ID = BASE["Supported-Vendor-Id"]
VENDOR_ID = BASE["Vendor-Id"]
RESULT_CODE = BASE["Result-Code"]
PRODUCT_NAME = BASE["Product-Name"]
DISCONNECT_CAUSE = BASE["Disconnect-Cause"]
AUTH_SESSION_STATE = BASE["Auth-Session-State"]
ORIGIN_STATE_ID = BASE["Origin-State-Id"]
FAILED_AVP = BASE["Failed-AVP"]
ERROR_MESSAGE = BASE["Error-Message"]
ROUTE_RECORD = BASE["Route-Record"]
DESTINATION_REALM = BASE["Destination-Realm"]
DESTINATION_HOST = BASE["Destination-Host"]
ORIGIN_REALM = BASE["Origin-Realm"]
EXPERIMENTAL_RESULT = BASE["Experimental-Result"]
EXPERIMENTAL_RESULT_CODE = BASE["Experimental-Result-Code"]
