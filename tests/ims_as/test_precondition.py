"""RFC 3312 and RFC 4032: what a phone offers, what we answer, and when it may be answered for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.errors import SdpError
from ims_as.sip.precondition import MAX_LINES, Preconditions, StatusType, Strength
from ims_as.sip.sdp import Direction, MediaDescription

NONE, BOTH = Direction.INACTIVE, Direction.SENDRECV


def media(*attributes: str) -> MediaDescription:
    return MediaDescription("audio", 4000, "RTP/AVP", ("0",), tuple(("a", text) for text in attributes))


def read(*attributes: str) -> Preconditions:
    found = Preconditions.from_offer_untrusted(media(*attributes))
    assert found is not None
    return found


def written(preconditions: Preconditions) -> list[str]:
    return [value for _, value in preconditions.to_lines()]


VOLTE_OFFER = (
    "curr:qos local none",
    "curr:qos remote none",
    "des:qos mandatory local sendrecv",
    "des:qos optional remote sendrecv",
)
"""Of a phone whose bearer is not there yet (as in TS 24.930)."""


def test_a_line_without_preconditions_has_none():
    assert Preconditions.from_offer_untrusted(media("sendrecv", "ptime:20")) is None


def test_a_phone_without_its_bearer_is_not_to_be_answered_yet():
    found = read(*VOLTE_OFFER)
    assert not found.is_met
    assert found.current == {StatusType.LOCAL: BOTH, StatusType.REMOTE: NONE}
    assert found.desired[StatusType.REMOTE] == {Strength.MANDATORY: BOTH}
    assert written(found) == [
        "curr:qos local sendrecv",
        "curr:qos remote none",
        "des:qos optional local sendrecv",
        "des:qos mandatory remote sendrecv",
        "conf:qos remote sendrecv",
    ]


def test_its_update_says_that_the_bearer_is_there():
    found = read(
        "curr:qos local sendrecv",
        "curr:qos remote sendrecv",
        "des:qos mandatory local sendrecv",
        "des:qos mandatory remote sendrecv",
    )
    assert found.is_met
    assert found.is_satisfied
    assert written(found) == [
        "curr:qos local sendrecv",
        "curr:qos remote sendrecv",
        "des:qos mandatory local sendrecv",
        "des:qos mandatory remote sendrecv",
    ]


def test_a_bearer_of_one_direction_is_not_enough_for_both():
    found = read("curr:qos local send", "des:qos mandatory local sendrecv")
    assert found.current[StatusType.REMOTE] is Direction.RECVONLY  # their sending is our receiving
    assert not found.is_met
    assert "curr:qos remote recv" in written(found)


def test_one_direction_is_enough_where_one_is_wanted():
    assert read("curr:qos local send", "des:qos mandatory local send").is_met
    assert not read("curr:qos local recv", "des:qos mandatory local send").is_met


def test_two_wishes_of_one_side_are_kept_apart():
    found = read("curr:qos local send", "des:qos mandatory local send", "des:qos optional local recv")
    assert found.is_met
    assert not found.is_satisfied
    assert written(found)[-2:] == ["des:qos mandatory remote recv", "des:qos optional remote send"]


def test_a_mere_wish_holds_nobody_up():
    found = read("curr:qos local none", "des:qos optional local sendrecv")
    assert found.is_met
    assert not found.is_satisfied
    assert not any(line.startswith("conf") for line in written(found))


def test_end_to_end():
    found = read("curr:qos e2e none", "des:qos mandatory e2e sendrecv", "conf:qos e2e recv")
    assert not found.is_met
    assert found.confirm == {StatusType.E2E: Direction.SENDONLY}
    assert written(found) == [
        "curr:qos e2e none",
        "des:qos mandatory e2e sendrecv",
        "conf:qos e2e sendrecv",
    ]
    assert read("curr:qos e2e sendrecv", "des:qos mandatory e2e sendrecv").is_met


def test_without_a_wish_of_ours_none_is_written_as_none():
    assert written(read("curr:qos local none"))[2:] == ["des:qos none local sendrecv", "des:qos none remote sendrecv"]


def test_a_mandatory_precondition_that_we_do_not_know_is_never_met():
    found = read("curr:sec e2e none", "des:sec mandatory e2e sendrecv")
    assert not found.is_met
    assert [value for _, value in found.to_failure_lines()] == ["des:sec unknown e2e sendrecv"]


def test_an_optional_one_that_we_do_not_know_is_nothing_to_us():
    assert read("des:sec optional e2e sendrecv", *VOLTE_OFFER).unknown == ()


def test_what_could_not_be_reserved_is_named_in_a_refusal():
    assert [value for _, value in read(*VOLTE_OFFER).to_failure_lines()] == ["des:qos failure remote sendrecv"]


@pytest.mark.parametrize(
    "line",
    [
        "curr:qos",
        "curr:qos local",
        "curr:qos here none",
        "curr:qos local both",
        "des:qos mandatory",
        "des:qos local sendrecv",
        "des:qos urgent local sendrecv",
        "des",
        "conf:qos remote",
    ],
)
def test_a_line_that_cannot_be_read_breaks_the_description(line: str):
    with pytest.raises(SdpError):
        Preconditions.from_offer_untrusted(media(*VOLTE_OFFER, line))


def test_the_number_of_lines_is_bounded():
    with pytest.raises(SdpError):
        Preconditions.from_offer_untrusted(media(*["curr:qos local none"] * (MAX_LINES + 1)))


DIRECTIONS = st.sampled_from(["none", "send", "recv", "sendrecv"])
LINES = st.lists(
    st.one_of(
        st.builds("curr:qos {} {}".format, st.sampled_from(["local", "remote"]), DIRECTIONS),
        st.builds(
            "des:qos {} {} {}".format,
            st.sampled_from(["none", "optional", "mandatory"]),
            st.sampled_from(["local", "remote"]),
            DIRECTIONS,
        ),
    ),
    min_size=1,
    max_size=10,
)


@given(LINES)
def test_our_lines_mean_to_the_peer_what_they_mean_to_us(lines: list[str]):
    """What the peer reads of our answer, seen from there, is our own table: nothing wished for is lost or weakened."""
    ours = read(*lines)
    theirs = read(*written(ours))
    for status in (StatusType.LOCAL, StatusType.REMOTE):
        wanted = {
            strength: direction
            for strength, direction in ours.desired.get(status, {}).items()
            if direction is not NONE and strength is not Strength.NONE
        }
        seen = {
            strength: direction.reversed
            for strength, direction in theirs.desired.get(status.turned, {}).items()
            if strength is not Strength.NONE
        }
        assert seen == wanted
    # the peer may hold its own access for reserved; ours it must see as we wrote it
    assert theirs.current[StatusType.REMOTE] is BOTH


@given(LINES)
def test_a_reserved_bearer_is_all_that_was_missing(lines: list[str]):
    updated = [line for line in lines if not line.startswith("curr:qos local")] + ["curr:qos local sendrecv"]
    assert read(*updated).is_satisfied
