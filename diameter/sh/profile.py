"""What Sh says of one user, put together from answers and notifications. Sans-IO."""

from __future__ import annotations

from attrs import evolve, frozen

from diameter.sh.repository import Verdict, judge_push
from diameter.sh.userdata import ShData

__all__ = ["ShProfile", "build_profile", "merge_profile", "merge_push"]

# of one alias group; more are not remembered as such
MAX_ALIASES = 32


@frozen
class ShProfile:
    """What Sh says of one user.

    Attributes:
        impu: the identity that was asked for.
        service_data: our repository item (the element inside ServiceData), None when there is none.
        sequence: its sequence number, None when there is no item.
        ifcs: the `IFCs` element as XML, None when the HSS gives none.
        scscf_name: URI of the assigned S-CSCF, None or '' when nobody serves the user.
        user_state: IMSUserState 0..3, None when not given.
        aliases: the other public identities that came along.
        fetched_at: monotonic seconds of the pull.
        alias_group: those of them that share repository data and service profile with `impu` (TS 23.008): what the
            HSS calls AliasIdentities.
        wildcard: the wildcarded PSI or IMPU that `impu` falls under, None where not known.
    """

    impu: str
    service_data: bytes | None = None
    sequence: int | None = None
    ifcs: bytes | None = None
    scscf_name: str | None = None
    user_state: int | None = None
    aliases: tuple[str, ...] = ()
    fetched_at: float = 0.0
    alias_group: tuple[str, ...] = ()
    wildcard: str | None = None


def build_profile(
    impu: str, data: ShData, *, service_indication: bytes, now: float, wildcard: str | None = None
) -> ShProfile:
    """The profile in a pulled document."""
    profile = ShProfile(impu, fetched_at=now, wildcard=wildcard)
    return merge_profile(profile, data, service_indication=service_indication)


def merge_profile(profile: ShProfile, data: ShData, *, service_indication: bytes) -> ShProfile:
    """The profile with what the HSS has answered; what the document does not mention stays as it is, its age included.

    A repository item without ServiceData is a deleted one (TS 29.328 §6.1.4): the next one starts at 0 again.
    """
    item = data.find_repository(service_indication)
    service_data, sequence = profile.service_data, profile.sequence
    if item is not None:
        service_data = item.service_data
        sequence = item.sequence_number if service_data is not None else None
    aliases, alias_group = profile.aliases, profile.alias_group
    identities = data.identities
    if identities:
        aliases = tuple(identity for identity in identities if identity != profile.impu) or aliases
        if profile.impu in data.alias_identities:
            alias_group = tuple(each for each in data.alias_identities if each != profile.impu)[:MAX_ALIASES]
    if data.deleted_identities:
        aliases = tuple(each for each in aliases if each not in data.deleted_identities)
        alias_group = tuple(each for each in alias_group if each not in data.deleted_identities)
    return ShProfile(
        profile.impu,
        service_data=service_data,
        sequence=sequence,
        ifcs=data.ifcs if data.ifcs is not None else profile.ifcs,
        scscf_name=data.scscf_name if data.scscf_name is not None else profile.scscf_name,
        user_state=data.user_state if data.user_state is not None else profile.user_state,
        aliases=aliases,
        fetched_at=profile.fetched_at,
        alias_group=alias_group,
        wildcard=profile.wildcard,
    )


def merge_push(profile: ShProfile, data: ShData, *, service_indication: bytes) -> tuple[ShProfile, Verdict]:
    """The profile after a notification, and how its repository item was judged.

    The item counts only if its sequence number says that it is newer than ours.
    """
    item = data.find_repository(service_indication)
    if item is None:
        return merge_profile(profile, data, service_indication=service_indication), Verdict(True)
    verdict = judge_push(profile.sequence, profile.service_data, item)
    if not verdict.applies:
        data = evolve(data, repository=())
    return merge_profile(profile, data, service_indication=service_indication), verdict
