"""How an agent answers a call and hands it on: parts of ``agents`` in the configuration."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import attrs

from ims_as.config_values import bounded

__all__ = [
    "AnswerConfig",
    "AnswerMode",
    "BackgroundConfig",
    "BargeIn",
    "DigitsConfig",
    "RecordingConfig",
    "RecordingFormat",
    "RecordingMode",
    "RecordingPauses",
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


@attrs.frozen
class BackgroundConfig:
    """What a caller hears under everything else while an agent has it: a room, an office."""

    clip: str | None = None
    """WAV or Ogg/Opus file, played in a loop; none: nothing."""
    level_db: float = bounded(-24.0, -60, 0)
    """Its level against the file's own, dB."""


class RecordingMode(Enum):
    """When an agent's calls are recorded."""

    NEVER = "never"
    ALWAYS = "always"
    CONSENT = "consent"
    ENGINE = "engine"


class RecordingFormat(Enum):
    """Of the audio files."""

    WAV = "wav"
    OGG = "ogg"


class RecordingPauses(Enum):
    """What a pause leaves in the file."""

    SILENCE = "silence"
    CUT = "cut"


@attrs.frozen
class RecordingConfig:
    """Whether an agent's calls are recorded, and how long that is kept (docs/recording.md)."""

    mode: RecordingMode = RecordingMode.NEVER
    """``never``; ``always``: from the answer on, after ``prompt``; ``consent``: when the caller has pressed
    ``consent_digit`` after ``prompt``; ``engine``: when the engine says ``record_start``.  In all of them the engine
    may pause, resume and stop."""
    needs_profile: bool = True
    """Only where the served user's profile says ``Consent/Recording`` true; false: also where it says nothing.  A
    profile that says false always forbids it."""
    directory: Path = Path("/var/lib/ims-as/recordings")
    """Folder on the media worker's machine; below it one for each subscriber."""
    format: RecordingFormat = RecordingFormat.WAV
    """``wav``: 16-bit PCM; ``ogg``: Opus.  Both stereo at the line's rate: left the caller, right what it hears."""
    pauses: RecordingPauses = RecordingPauses.SILENCE
    """``silence``: a pause lasts as long in the file; ``cut``: it is left out."""
    retention_days: int = bounded(30, 0, 36500)
    """Deleted after so many days; 0: kept until somebody deletes it."""
    prompt: str | None = None
    """WAV or Ogg/Opus file that the caller hears before anything is recorded; needed for ``consent``."""
    consent_digit: str = "1"
    """Key that means yes; any other means no."""
    consent_s: int = bounded(10, 1, 120)
    """Seconds after the prompt within which the key must come; then it means no."""
