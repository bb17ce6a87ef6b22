"""How an agent answers a call and hands it on: parts of ``agents`` in the configuration."""

from __future__ import annotations

from enum import Enum

import attrs

from ims_as.config_values import bounded

__all__ = [
    "AnswerConfig",
    "AnswerMode",
    "BargeIn",
    "DigitsConfig",
    "TransferConfig",
    "TransferEarlyMedia",
    "TransferMedia",
    "TransferMethod",
]


class AnswerMode(Enum):
    """What a caller gets before the 200."""

    DIRECT = "direct"
    RINGING = "ringing"
    EARLY_MEDIA = "early-media"


class BargeIn(Enum):
    """Who silences the agent when the caller speaks over it."""

    ENGINE = "engine"
    LOCAL = "local"


class TransferEarlyMedia(Enum):
    """What becomes of the early media of a party that a caller is handed to."""

    IGNORE = "ignore"
    RELAY = "relay"


class TransferMedia(Enum):
    """Which way the audio goes between a caller and whom it is handed to."""

    AUTO = "auto"
    """Directly; through our media worker where the target cannot do with the caller's description."""
    DIRECT = "direct"
    ANCHOR = "anchor"
    """Always through our media worker."""


class TransferMethod(Enum):
    """How an agent's caller gets to somebody else."""

    THIRD_PARTY = "3pcc"
    """We call the target and join the two."""
    REFER = "refer"
    """The caller is asked to call the target itself."""


@attrs.frozen
class DigitsConfig:
    """Keys that the caller presses (DTMF)."""

    mute: bool = False
    """Their tones are replaced by silence in what the engine and a recording hear, for card numbers and the like; up to
    25 ms of each tone's beginning remain."""


@attrs.frozen
class AnswerConfig:
    """How an agent takes a call once its engine is ready."""

    mode: AnswerMode = AnswerMode.DIRECT
    """``direct``: 200 at once, so that nothing above 100 comes before; ``ringing``: 180 first; ``early-media``: 183
    first with our description, reliably where the caller can, and the engine's audio at once.  After a 180 or 183 the
    S-CSCF does not fall back to legacy termination any more."""
    after_ms: int = bounded(0, 0, 60000)
    """Milliseconds of ringing or early media before the 200."""
    clip: str | None = None
    """``early-media``: WAV file, or ``builtin:ringback``, that plays until the engine's first audio; none: nothing."""
    resources_ms: int = bounded(8000, 100, 60000)
    """Milliseconds that a caller with mandatory preconditions (RFC 3312) has to reserve its resources; it is not
    answered before."""


@attrs.frozen
class TransferConfig:
    """Where an agent may send its caller."""

    allow: tuple[str, ...] = ("served-user",)
    """``served-user``, ``queue``, or a regular expression that a whole URI must match, such as ``tel:\\+49.*``."""
    queue: str | None = None
    """SIP or tel URI of the human queue."""
    method: TransferMethod = TransferMethod.THIRD_PARTY
    """``3pcc``: we call the target and join the two; ``refer``: the caller is asked by REFER to call it, where it can,
    and 3pcc is the way out when it refuses.  The served user is always called by us."""
    media: TransferMedia = TransferMedia.AUTO
    """``auto``: the parties send to each other, and only where the target cannot do with the caller's description (415,
    488, 606) its audio goes through our media worker, which transcodes; ``direct``: never through us; ``anchor``:
    always."""
    early_media: TransferEarlyMedia = TransferEarlyMedia.IGNORE
    """Ringback and announcements of the target before it answers: ``ignore`` (the caller stays with the agent) or
    ``relay`` (the caller hears them)."""
