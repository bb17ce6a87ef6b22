"""python-diameter as a codec: JSON lines on stdin, one JSON line back for each.  Runs in .venv-peers.

{"decode": hex}      class, header, AVPs as a tree, and the bytes as encoded again (plain; and from its typed class)
{"samples": true}    messages that its typed classes have built: name → hex
{"dictionary": true} vendor → code → [name, type]
"""

import datetime
import json
import sys

from diameter.message import Message, constants
from diameter.message.avp import Avp, AvpGrouped
from diameter.message.avp import dictionary as tables
from diameter.message.avp.avp import Avp as AnyAvp
from diameter.message.avp.grouped import (
    ExperimentalResult,
    FailedAvp,
    OcOlr,
    OcSupportedFeatures,
    RepositoryDataId,
    SupportedFeatures,
    UserIdentity,
    VendorSpecificApplicationId,
)
from diameter.message.commands import (
    CapabilitiesExchangeAnswer,
    CapabilitiesExchangeRequest,
    DeviceWatchdogAnswer,
    DeviceWatchdogRequest,
    DisconnectPeerAnswer,
    DisconnectPeerRequest,
    ProfileUpdateAnswer,
    ProfileUpdateRequest,
    PushNotificationAnswer,
    PushNotificationRequest,
    SubscribeNotificationsAnswer,
    SubscribeNotificationsRequest,
    UserDataAnswer,
    UserDataRequest,
)

SH, TGPP = 16777217, 10415
XML = b"<Sh-Data><Sh-IMS-Data><IMSUserState>1</IMSUserState></Sh-IMS-Data></Sh-Data>"


def tree(avps):
    return [
        [avp.vendor_id, avp.code, avp.flags, tree(avp.value) if isinstance(avp, AvpGrouped) else plain(avp)]
        for avp in avps
    ]


def plain(avp):
    if type(avp) is AnyAvp:
        raise LookupError(f"AVP {avp.code} of vendor {avp.vendor_id} unknown")
    value = avp.value  # raises AvpDecodeError
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, datetime.datetime):
        return int(value.timestamp())
    return value[1] if isinstance(value, tuple) else value


def decode(data):
    message, typed = Message.from_bytes(data, plain_msg=True), Message.from_bytes(data)
    header = message.header
    return {
        "class": type(typed).__name__,
        "header": [
            header.command_code,
            header.application_id,
            header.command_flags,
            header.hop_by_hop_identifier,
            header.end_to_end_identifier,
        ],
        "avps": tree(message.avps),
        "plain": message.as_bytes().hex(),
        "typed": typed.as_bytes().hex(),
    }


def head(message, *, is_request=True):
    message.header.application_id = SH
    message.header.hop_by_hop_identifier, message.header.end_to_end_identifier = 0x01020304, 0x0A0B0C0D
    message.session_id = "peer.example;1;2"
    message.vendor_specific_application_id = VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)
    message.auth_session_state = constants.E_AUTH_SESSION_STATE_NO_STATE_MAINTAINED
    message.origin_host, message.origin_realm = b"peer.example", b"example"
    if is_request:
        message.destination_host, message.destination_realm = b"as.example", b"example"
        message.user_identity = UserIdentity(public_identity="sip:alice@example")
    else:
        message.result_code = constants.E_RESULT_CODE_DIAMETER_SUCCESS
    return message


def base(message, **values):
    message.header.hop_by_hop_identifier, message.header.end_to_end_identifier = 0x01020304, 0x0A0B0C0D
    message.origin_host, message.origin_realm = b"peer.example", b"example"
    for name, value in values.items():
        setattr(message, name, value)
    return message


def samples():
    about = {
        "host_ip_address": "127.0.0.1",
        "vendor_id": 99999,
        "product_name": "python-diameter",
        "origin_state_id": 7,
        "supported_vendor_id": [TGPP],
        "auth_application_id": [SH],
        "vendor_specific_application_id": [VendorSpecificApplicationId(vendor_id=TGPP, auth_application_id=SH)],
    }
    features = [SupportedFeatures(vendor_id=TGPP, feature_list_id=1, feature_list=1)]
    udr = head(UserDataRequest())
    udr.supported_features, udr.server_name = features, "sip:as.example"
    udr.service_indication, udr.data_reference = [b"ai-voice-agent"], [0, 11, 12]
    uda = head(UserDataAnswer(), is_request=False)
    uda.supported_features = features
    uda.oc_supported_features = OcSupportedFeatures(oc_feature_vector=1)
    uda.oc_olr = OcOlr(oc_sequence_number=3, oc_report_type=0, oc_reduction_percentage=10, oc_validity_duration=30)
    # its typed class would write User-Data as 606, which is the one of Cx
    uda.append_avp(Avp.new(constants.AVP_TGPP_SH_USER_DATA, TGPP, value=XML))
    refused = head(UserDataAnswer(), is_request=False)
    refused.result_code = None
    refused.experimental_result = ExperimentalResult(vendor_id=TGPP, experimental_result_code=5001)
    missing = head(UserDataAnswer(), is_request=False)
    missing.result_code = constants.E_RESULT_CODE_DIAMETER_MISSING_AVP
    missing.failed_avp = FailedAvp(additional_avps=[Avp.new(constants.AVP_TGPP_USER_IDENTITY, TGPP, value=[])])
    pur = head(ProfileUpdateRequest())
    pur.data_reference = [0]
    pua = head(ProfileUpdateAnswer(), is_request=False)
    pua.repository_data_id = RepositoryDataId(service_indication=b"ai-voice-agent", sequence_number=3)
    snr = head(SubscribeNotificationsRequest())
    snr.subs_req_type, snr.data_reference, snr.service_indication = 0, [0], [b"ai-voice-agent"]
    snr.send_data_indication = 1
    snr.expiry_time = datetime.datetime.fromtimestamp(1_800_000_000)
    sna = head(SubscribeNotificationsAnswer(), is_request=False)
    sna.expiry_time = datetime.datetime.fromtimestamp(1_800_000_000)
    pnr = head(PushNotificationRequest())
    for message in (pur, pnr, sna):
        message.append_avp(Avp.new(constants.AVP_TGPP_SH_USER_DATA, TGPP, value=XML))
    built = {
        "CER": base(CapabilitiesExchangeRequest(), **about),
        "CEA": base(CapabilitiesExchangeAnswer(), result_code=2001, **about),
        "DWR": base(DeviceWatchdogRequest(), origin_state_id=7),
        "DWA": base(DeviceWatchdogAnswer(), result_code=2001, origin_state_id=7),
        "DPR": base(DisconnectPeerRequest(), disconnect_cause=0),
        "DPA": base(DisconnectPeerAnswer(), result_code=2001),
        "UDR": udr,
        "UDA": uda,
        "UDA refused": refused,
        "UDA failed AVP": missing,
        "PUR": pur,
        "PUA": pua,
        "SNR": snr,
        "SNA": sna,
        "PNR": pnr,
        "PNA": head(PushNotificationAnswer(), is_request=False),
    }
    return {name: message.as_bytes().hex() for name, message in built.items()}


def dictionary():
    vendors = {**tables.AVP_VENDOR_DICTIONARY, 0: tables.AVP_DICTIONARY}
    return {
        vendor: {code: [entry["name"], entry["type"].__name__] for code, entry in entries.items()}
        for vendor, entries in vendors.items()
    }


def answer(line):
    asked = json.loads(line)
    try:
        if "decode" in asked:
            return decode(bytes.fromhex(asked["decode"]))
        return samples() if "samples" in asked else dictionary()
    except Exception as error:  # to be told to the test
        return {"error": repr(error)}


for line in sys.stdin:
    print(json.dumps(answer(line)), flush=True)
