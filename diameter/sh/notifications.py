"""Reads PNRs and says what a PNA answers (TS 29.328 §6.1.4). Sans-IO."""

from __future__ import annotations

from attrs import frozen

from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, SH_APPLICATION_ID, ShResultCode
from diameter.errors import RemoteDiameterError
from diameter.message import Message, Result
from diameter.sh.messages import (
    PushNotificationAnswer,
    PushNotificationRequest,
    SupportedFeatures,
    UserIdentity,
    required_features_untrusted,
)
from diameter.sh.ownership import tells_of_another
from diameter.sh.userdata import ShData, find_deviations_untrusted, parse_sh_data_untrusted

__all__ = ["Push", "PushRefusal", "build_push_answer", "read_push_untrusted"]

SUCCESS = Result(ResultCode.SUCCESS)
USER_UNKNOWN = Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP)
NO_SUBSCRIPTION = Result(ShResultCode.NO_SUBSCRIPTION_TO_DATA, VENDOR_3GPP)
FEATURE_UNSUPPORTED = Result(ShResultCode.FEATURE_UNSUPPORTED, VENDOR_3GPP)


@frozen
class Push:
    """A notification: of whom (and of which wildcarded identity), and what is new."""

    identity: UserIdentity
    wildcard: str | None
    data: ShData


@frozen
class PushRefusal:
    """Why a notification is refused."""

    result: Result


def read_push_untrusted(message: Message, *, strict: bool = False) -> Push | PushRefusal:
    """A PNR.

    Args:
        strict: refuse Sh-Data that deviates from the schema (5100).

    Raises:
        RemoteDiameterError: another command, or not a sound PNR; the node answers with its Result-Code.
    """
    command = PushNotificationRequest.COMMAND
    if message.application_id != SH_APPLICATION_ID or message.code != command.code:
        raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
    request = PushNotificationRequest.read_untrusted(message)
    if request.supported_features and required_features_untrusted(message) & ~FEATURE_NOTIF_EFF:
        return PushRefusal(FEATURE_UNSUPPORTED)
    try:
        data = parse_sh_data_untrusted(request.user_data)
        if strict and find_deviations_untrusted(request.user_data):
            return PushRefusal(Result(ShResultCode.USER_DATA_NOT_RECOGNIZED, VENDOR_3GPP))
    except RemoteDiameterError as error:
        return PushRefusal(Result(error.result_code, VENDOR_3GPP))
    wildcard = request.wildcarded_public_identity or request.wildcarded_impu
    has_profile = data.repository or data.ifcs is not None
    if has_profile and wildcard is None and tells_of_another(request.user_identity, data):
        return PushRefusal(Result(ShResultCode.USER_DATA_NOT_RECOGNIZED, VENDOR_3GPP))
    return Push(request.user_identity, wildcard, data)


def build_push_answer(message: Message, result: Result, *, origin_host: str, origin_realm: str) -> Message:
    """The PNA. One that refuses for want of a feature says which ones we have."""
    features = (SupportedFeatures(FEATURE_NOTIF_EFF),) if result == FEATURE_UNSUPPORTED else ()
    return PushNotificationAnswer(
        origin_host=origin_host, origin_realm=origin_realm, result=result, supported_features=features
    ).to_answer(message)
