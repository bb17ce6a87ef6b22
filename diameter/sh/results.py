"""Every result code of Sh (TS 29.329 §6.2): name, meaning for people, error class. One table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from types import MappingProxyType

from attrs import frozen

from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.dictionary.sh import ShResultCode
from diameter.message import Result
from diameter.sh import errors
from diameter.sh.data_reference import REFERENCE_RULES, Operation
from diameter.sh.errors import ShError, ShRefusedError, ShUserUnknownError

__all__ = ["MEANINGS", "Meaning", "describe_result", "error_of", "is_user_unknown"]


@frozen
class Meaning:
    """One row.

    Attributes:
        text: what it means to the one who asked.
        error: class of the error that it is reported by.
    """

    text: str
    error: type[ShRefusedError] = ShRefusedError


_EXPERIMENTAL: dict[int, Meaning] = {
    ShResultCode.USER_DATA_NOT_AVAILABLE: Meaning("the data is not there for now", errors.ShNotAvailableError),
    ShResultCode.PRIOR_UPDATE_IN_PROGRESS: Meaning(
        "somebody else is changing it; try again", errors.ShUpdateInProgressError
    ),
    ShResultCode.USER_UNKNOWN: Meaning("the HSS does not know this identity"),
    ShResultCode.IDENTITIES_DONT_MATCH: Meaning(
        "public and private identity do not belong together", errors.ShIdentityMismatchError
    ),
    ShResultCode.TOO_MUCH_DATA: Meaning("more service data than the HSS accepts", errors.ShTooMuchDataError),
    ShResultCode.FEATURE_UNSUPPORTED: Meaning("the HSS lacks a feature that was demanded", errors.ShFeatureError),
    ShResultCode.USER_DATA_NOT_RECOGNIZED: Meaning("the HSS cannot make sense of the XML", errors.ShNotRecognizedError),
    ShResultCode.OPERATION_NOT_ALLOWED: Meaning(
        "not allowed for this data, or nothing to delete", errors.ShNotAllowedError
    ),
    ShResultCode.USER_DATA_CANNOT_BE_READ: Meaning("this Origin-Host may not read it", errors.ShPermissionError),
    ShResultCode.USER_DATA_CANNOT_BE_MODIFIED: Meaning("this Origin-Host may not change it", errors.ShPermissionError),
    ShResultCode.USER_DATA_CANNOT_BE_NOTIFIED: Meaning(
        "this Origin-Host may not subscribe to it", errors.ShPermissionError
    ),
    ShResultCode.TRANSPARENT_DATA_OUT_OF_SYNC: Meaning("others keep changing it; try again", errors.ShOutOfSyncError),
    ShResultCode.SUBS_DATA_ABSENT: Meaning("there is nothing yet to subscribe to", errors.ShDataAbsentError),
    ShResultCode.NO_SUBSCRIPTION_TO_DATA: Meaning("there is no such subscription", errors.ShNoSubscriptionError),
    ShResultCode.DSAI_NOT_AVAILABLE: Meaning("no such activation tag is configured", errors.ShDataAbsentError),
}
_BASE: dict[int, Meaning] = {
    ResultCode.UNABLE_TO_COMPLY: Meaning("the HSS has a problem of its own"),
    ResultCode.UNABLE_TO_DELIVER: Meaning("no way to the HSS"),
    ResultCode.REALM_NOT_SERVED: Meaning("diameter.destination_realm is not its realm"),
    ResultCode.TOO_BUSY: Meaning("the HSS is overloaded"),
    ResultCode.AVP_UNSUPPORTED: Meaning("the HSS does not know something that we sent"),
    ResultCode.MISSING_AVP: Meaning("the HSS wants something more"),
    ResultCode.COMMAND_UNSUPPORTED: Meaning("the HSS has no Sh, or not this command"),
    ResultCode.APPLICATION_UNSUPPORTED: Meaning("the HSS has no Sh"),
}
MEANINGS: Mapping[Result, Meaning] = MappingProxyType(
    {Result(code, VENDOR_3GPP): meaning for code, meaning in _EXPERIMENTAL.items()}
    | {Result(code): meaning for code, meaning in _BASE.items()}
)
"""By result; what is not in it is a ShRefusedError without comment."""

# FHoSS says 5030 for a user that it does not know
_USER_UNKNOWN = frozenset({Result(ShResultCode.USER_UNKNOWN, VENDOR_3GPP), Result(5030), Result(5030, VENDOR_3GPP)})


def is_user_unknown(result: Result) -> bool:
    """True where the HSS does not know the identity."""
    return result in _USER_UNKNOWN


def error_of(result: Result, operation: Operation, references: Iterable[int]) -> ShError:
    """The error for an answer that is no success; it says which operation on which data was refused."""
    if is_user_unknown(result):
        return ShUserUnknownError("the HSS does not know the user")
    meaning = MEANINGS.get(result)
    names = [REFERENCE_RULES[each].name for each in references if each in REFERENCE_RULES]  # type: ignore[index]
    kind = ShRefusedError if meaning is None else meaning.error
    return kind(result, operation.value, names, meaning="" if meaning is None else meaning.text)


def describe_result(result: Result) -> str:
    """``5102 USER_DATA_CANNOT_BE_READ: this Origin-Host may not read it``."""
    if result.vendor not in (0, VENDOR_3GPP):
        return f"{result.code} of vendor {result.vendor}"
    codes: type[IntEnum] = ShResultCode if result.vendor else ResultCode
    name = next((code.name for code in codes if code == result.code), "")
    text = f"{result.code} {name}".rstrip()
    meaning = MEANINGS.get(result)
    if meaning is None and is_user_unknown(result):
        meaning = _EXPERIMENTAL[ShResultCode.USER_UNKNOWN]
    return text if meaning is None else f"{text}: {meaning.text}"
