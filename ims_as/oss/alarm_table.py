"""The alarms that there are: one table, which the alarm list, the documentation and later SNMP and VES read.

``docs/alarms.md`` is made from it (``python -m ims_as.oss.alarm_table > docs/alarms.md``).  Names of severities, event
types and probable causes are those of ITU-T X.733 as IANA has them for the Alarm MIB (RFC 3877).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

import attrs

__all__ = ["ALARMS", "AlarmDefinition", "AlarmSeverity", "EventType", "as_markdown"]


class AlarmSeverity(Enum):
    """perceivedSeverity; the numbers are those of ItuPerceivedSeverity."""

    CRITICAL = 3
    """The service is gone."""
    MAJOR = 4
    """The service is worse, or will be; act now."""
    MINOR = 5
    """What keeps the service up has gone; act in working hours."""
    WARNING = 6


class EventType(Enum):
    """The numbers are those of IANAItuEventType."""

    communicationsAlarm = 2
    qualityOfServiceAlarm = 3
    processingErrorAlarm = 4


@attrs.frozen
class AlarmDefinition:
    """One kind of alarm; an alarm is raised for an object, such as a peer."""

    name: str
    """Also the metric's label."""
    severity: AlarmSeverity
    event_type: EventType
    probable_cause: str
    """Name in IANAItuProbableCause."""
    probable_cause_number: int
    problem: str
    """specificProblem."""
    object: str
    """What it is raised for, as text for people."""
    raised: str
    """When."""
    cleared: str
    cause: str
    effect: str
    action: str


def _table(*definitions: AlarmDefinition) -> Mapping[str, AlarmDefinition]:
    by_name = {definition.name: definition for definition in definitions}
    if len(by_name) != len(definitions):
        raise ValueError("a name is there twice")
    return MappingProxyType(by_name)


ALARMS: Final = _table(
    AlarmDefinition(
        name="hss-unreachable",
        severity=AlarmSeverity.MAJOR,
        event_type=EventType.communicationsAlarm,
        probable_cause="communicationsSubsystemFailure",
        probable_cause_number=505,
        problem="The HSS cannot be asked",
        object="the realm of the HSS (`diameter.destination_realm`)",
        raised="no Diameter peer is open for `diameter.alarm_after_s`, or peers are open and for as long no Sh request "
        "of three or more was answered",
        cleared="at once when a peer opens, or when an Sh request is answered",
        cause="The HSS or the Diameter agent in front of it is down, overloaded or cut off, or drops what we send; "
        "`detail` tells which of the two it is.",
        effect="Calls go on: users whose profile is cached keep it, others get the agent that `routing` names. Changes "
        "of profiles are not seen. What a user has switched off may be answered by an agent.",
        action="See `/metrics` (`ims_as_diameter_peer_state`) and the alarms of the peers. Check the HSS, the way to "
        "it, and whether it knows our Origin-Host. Nothing needs to be restarted here.",
    ),
    AlarmDefinition(
        name="hss-peer-down",
        severity=AlarmSeverity.MINOR,
        event_type=EventType.communicationsAlarm,
        probable_cause="connectionEstablishmentError",
        probable_cause_number=22,
        problem="A Diameter peer is down",
        object="the peer, as in `diameter.peers`",
        raised="the peer is not open for `diameter.alarm_after_s`",
        cleared="at once when it is open",
        cause="The peer is down, does not answer watchdogs, refuses our capabilities, or cannot be reached.",
        effect="None while another peer is open: requests go there. Without one, see `hss-unreachable`.",
        action="Check the peer and the way to it; the connection is retried by itself.",
    ),
    AlarmDefinition(
        name="sh-not-permitted",
        severity=AlarmSeverity.MINOR,
        event_type=EventType.processingErrorAlarm,
        probable_cause="configurationOrCustomisationError",
        probable_cause_number=159,
        problem="The HSS does not let us use some data",
        object="the realm of the HSS (`diameter.destination_realm`)",
        raised="the HSS refuses an Sh request with 5102, 5103 or 5104 (TS 29.329 clause 6.2)",
        cleared="no request was refused so for an hour",
        cause="Our Origin-Host lacks a permission in the HSS's list of application servers (TS 29.328 clause 6.2).",
        effect="After 5102 users get the agent that `routing` names; after 5104 changes of profiles are only seen when "
        "they are asked for again (5 minutes); after 5103 `ims-as sh put` does not work.",
        action="Have the HSS permit our Origin-Host to read and to be notified of repository data, and to read iFC, "
        "user state and S-CSCF name; to change repository data where that is wanted. `ims-as sh get` and `ims-as sh "
        "watch` tell what is refused.",
    ),
    AlarmDefinition(
        name="recording-lost",
        severity=AlarmSeverity.MAJOR,
        event_type=EventType.processingErrorAlarm,
        probable_cause="storageCapacityProblem",
        probable_cause_number=151,
        problem="Calls are not recorded as they should be",
        object="the folder of the recordings (`agents.*.recording.directory`)",
        raised="at once when something of a recording there could not be written",
        cleared="when a recording there was completed whole",
        cause="The disk is full, too slow or cannot be written to, or the process that writes recordings ended.",
        effect="Recordings have gaps or are missing; their sidecars and `ims_as_recording_lost_seconds_total` tell how "
        "much. No call is disturbed.",
        action="See `RECORDING_FAILED` in the log. Make room (`ims-as recordings purge --older-than DAYS`), check "
        "permissions and speed of the disk.",
    ),
    AlarmDefinition(
        name="one-way-audio",
        severity=AlarmSeverity.MAJOR,
        event_type=EventType.qualityOfServiceAlarm,
        probable_cause="lossOfSignal",
        probable_cause_number=8,
        problem="Calls have audio in one direction only",
        object="our address for RTP (`media.address`)",
        raised="within five minutes five different parties or more, and one call in twenty, had audio one way only",
        cleared="fewer than half as many, or half the share",
        cause="RTP does not reach us, or ours does not reach the other side: a firewall or a media gateway, a wrong "
        "`media.address`, ports of `media.ports` that are closed on the way, an address translator.",
        effect="Callers are not heard by the agent or do not hear it; they hang up.",
        action="See `ims_as_one_way_audio_total` for direction and reason and `one_way` of the calls concerned (`GET "
        "/calls/{id}`). `receive` with `no-packets`: nothing arrives at our ports. `strangers` or `invalid-packets`: "
        "something does, from elsewhere than was signalled or not as was agreed. `send`: the other side's RTCP says "
        "that our packets do not arrive.",
    ),
    AlarmDefinition(
        name="media-worker-lost",
        severity=AlarmSeverity.MAJOR,
        event_type=EventType.processingErrorAlarm,
        probable_cause="softwareProgramAbnormallyTerminated",
        probable_cause_number=545,
        problem="A media worker was lost",
        object="the worker (`w0`, `w1`, …; a remote one by its address)",
        raised="its process has ended, the connection to it has broken, or it has said nothing for 2 s",
        cleared="a worker is in its place and none was lost there for a minute",
        cause="It was killed (out of memory?), has crashed or hangs; a remote one may be cut off. See `detail`.",
        effect="Its calls went on with another worker after a fraction of a second without audio; "
        "`ims_as_media_moves_total` counts them and those for which that did not work. Without any worker for 5 s, "
        "callers are handed to a person.",
        action="See the kernel's log for the process and `/metrics` (`ims_as_media_worker_up`). The worker is started "
        "or connected again by itself.",
    ),
    AlarmDefinition(
        name="media-full",
        severity=AlarmSeverity.MAJOR,
        event_type=EventType.qualityOfServiceAlarm,
        probable_cause="resourceAtOrNearingCapacity",
        probable_cause_number=541,
        problem="No media worker has room",
        object="`media`",
        raised="a call found every worker above `media.max_load`, or without a port",
        cleared="no call was refused so for a minute",
        cause="More calls than the workers can carry without audio that comes late, or other programs use their cores.",
        effect="New calls go back to the core (503, or on by their Route); calls that are up are not touched.",
        action="Add workers (one core each) or nodes, or lower `limits.calls`. `ims_as_media_worker_load_ratio` tells "
        "how busy each one is.",
    ),
)


def as_markdown() -> str:
    """docs/alarms.md."""
    lines = [
        "# Alarms",
        "",
        "An alarm is raised once for an object and stays until what it tells of is over. `GET /alarms` lists those",
        "that are active, the most severe first, and those cleared last; raising, clearing and acknowledging are in",
        "the log (`ALARM_RAISED`, `ALARM_CLEARED`, `ALARM_ACKNOWLEDGED`), and `ims_as_alarm_active{alarm,object}` is 1",
        "while one is active. `POST /alarms/{id}/acknowledge` notes that somebody looks after it (with a body",
        '`{"by": "name"}`: who). It needs the token of `api.token`, or the loopback interface where none is set.',
        "",
        "```",
        "$ ims-as alarms",
        "major     hss-unreachable of ims.mnc001.mcc001.3gppnetwork.org since 2023-11-25 07:36:16Z, id 6561a3f0-1",
        "          no Diameter peer is open",
        "          Calls go on: …",
        "$ ims-as alarms --acknowledge 6561a3f0-1 --by noc",
        "",
        "$ curl -s localhost:8080/alarms",
        '{"alarms":[{"id":"6561a3f0-1","alarm":"hss-unreachable","object":"ims.mnc001.mcc001.3gppnetwork.org",',
        ' "severity":"major","detail":"no Diameter peer is open","raised_at":1700897776.2,"count":1, …}],"cleared":[]}',
        "$ curl -s -X POST -H 'content-type: application/json' -d '{\"by\":\"noc\"}' \\",
        "    localhost:8080/alarms/6561a3f0-1/acknowledge",
        "```",
        "",
    ]
    for definition in ALARMS.values():
        lines += [
            f"## {definition.name}",
            "",
            f"{definition.problem}.",
            "",
            "| | |",
            "| --- | --- |",
            f"| severity | {definition.severity.name.lower()} |",
            f"| event type | {definition.event_type.name} ({definition.event_type.value}) |",
            f"| probable cause | {definition.probable_cause} ({definition.probable_cause_number}) |",
            f"| object | {definition.object} |",
            f"| raised | {definition.raised} |",
            f"| cleared | {definition.cleared} |",
            f"| cause | {definition.cause} |",
            f"| effect | {definition.effect} |",
            f"| what to do | {definition.action} |",
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_markdown(), end="")
