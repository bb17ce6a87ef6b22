"""Whose data is it? An HSS, or an agent in front of it, that mixes up answers must not give one user another's profile.

UDA carries no User-Identity, so the identities inside Sh-Data are what can tell. Where there are none, or a wildcard,
nothing is said. Names are compared generously (an HSS may put the tel: form, another domain or the IMPI where it was
asked for sip:): only data that names nobody we could have asked for is somebody else's. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterable

from diameter.sh.messages import UserIdentity
from diameter.sh.userdata import ShData

__all__ = ["tells_of_another"]

_SEPARATORS = str.maketrans("", "", "-.()")
# shorter numbers are extensions and short codes, which say nothing without their domain
_MIN_NUMBER_DIGITS = 5


def tells_of_another(identity: UserIdentity, data: ShData) -> bool:
    """True when the document names users, and none of them is the one asked for."""
    named = (*data.public_identities, *data.implicit_identities, *data.all_identities)
    if (
        not named
        or identity.public_identity in named
        or data.wildcarded_psi
        or data.wildcarded_impu
        or any("!" in each for each in named)
    ):
        return False
    if identity.public_identity is not None:
        asked = _names(identity.public_identity)
    elif identity.msisdn is not None:
        asked = {identity.msisdn}
    else:
        return False
    numbers = (*data.msisdns, *(digits for digits, _ in data.extended_msisdns), *((data.imsi,) if data.imsi else ()))
    return asked.isdisjoint(
        _all_names((*named, *data.private_identities, *data.alias_identities))
    ) and asked.isdisjoint(numbers)


def _all_names(identities: Iterable[str]) -> set[str]:
    return {name for identity in identities for name in _names(identity)}


def _names(identity: str) -> set[str]:
    """What an identity may be called: user@host in lower case without parameters, and its number."""
    scheme, colon, rest = identity.strip().lower().partition(":")
    address = (rest if colon else scheme).partition(";")[0]
    user = address.partition("@")[0]
    number = user.translate(_SEPARATORS).removeprefix("+")
    names = {address}
    if number.isascii() and number.isdigit() and len(number) >= _MIN_NUMBER_DIGITS:
        names.add(number)
    return names
