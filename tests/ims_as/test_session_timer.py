"""RFC 4028: the table of §9, the intervals of §7 to §10."""

from __future__ import annotations

import pytest

from ims_as.sip.message import Response
from ims_as.sip.session_timer import (
    SessionTimer,
    SessionTimerConfig,
    TooSmall,
    answer_timer,
    offer_timer,
    read_answer,
    retry_interval,
)
from tests.support.sip_messages import build_request, response_to

CONFIG = SessionTimerConfig()
TIMER = ("Supported", "timer, 100rel")


def answered(*headers: tuple[str, str], config: SessionTimerConfig = CONFIG, current: SessionTimer | None = None):
    return answer_timer(build_request(headers=headers), config, current=current)


def response(status: int, *headers: tuple[str, str]) -> Response:
    found = response_to(build_request(), status)
    for name, value in headers:
        found.headers.add(name, value)
    return found


# ---------------------------------------------------------------- callee


@pytest.mark.parametrize(
    ("asked", "refresher", "we_refresh"),
    [
        ("1800", "uac", False),
        ("1800;refresher=uac", "uac", False),
        ("1800;refresher=uas", "uas", True),
        ("1800;refresher=UAS", "uas", True),
        ("1800;refresher=somebody", "uac", False),
    ],
)
def test_caller_that_supports_timers(asked: str, refresher: str, we_refresh: bool):
    timer, headers = answered(TIMER, ("Session-Expires", asked))
    assert timer == SessionTimer(1800, we_refresh)
    assert headers == [("Require", "timer"), ("Session-Expires", f"1800;refresher={refresher}")]


def test_caller_without_timers_is_refreshed_by_us():
    """A proxy may have put the header in."""
    assert answered(("Session-Expires", "1800")) == (
        SessionTimer(1800, True),
        [("Session-Expires", "1800;refresher=uas")],
    )
    assert answered() == (SessionTimer(1800, True), [("Session-Expires", "1800;refresher=uas")])


def test_caller_that_says_nothing_but_could():
    assert answered(TIMER)[0] == SessionTimer(1800, False)
    assert answered(TIMER, config=SessionTimerConfig(refresher="we"))[0] == SessionTimer(1800, True)


def test_an_interval_is_reduced_to_ours_but_not_below_anybodys_minimum():
    assert answered(TIMER, ("Session-Expires", "7200"))[0].interval_s == 1800
    assert answered(TIMER, ("Session-Expires", "7200"), ("Min-SE", "3600"))[0].interval_s == 3600
    assert answered(TIMER, ("Session-Expires", "600"))[0].interval_s == 600
    assert answered(TIMER, ("Min-SE", "2400"))[0].interval_s == 2400


def test_too_small_an_interval():
    config = SessionTimerConfig(expires_s=1800, min_se_s=300)
    assert answered(TIMER, ("Session-Expires", "200"), config=config) == TooSmall(300)
    assert answered(TIMER, ("Session-Expires", "60")) == TooSmall(90)
    # §9: who does not know timers must not be refused for one
    assert answered(("Session-Expires", "200"), config=config)[0] == SessionTimer(200, True)
    assert answered(("Session-Expires", "1"))[0].interval_s == 90


@pytest.mark.parametrize("text", ["", "soon", "-5", "99999999999999999999", "1800 1800"])
def test_a_header_that_cannot_be_read_is_not_there(text: str):
    assert answered(TIMER, ("Session-Expires", text))[0] == SessionTimer(1800, False)
    assert answered(TIMER, ("Session-Expires", "1800"), ("Min-SE", text))[0] == SessionTimer(1800, False)


def test_a_refresh_keeps_what_is_in_force_unless_it_says_otherwise():
    current = SessionTimer(600, we_refresh=True)
    assert answered(TIMER, current=current)[0] == current
    assert answered(TIMER, ("Session-Expires", "900;refresher=uac"), current=current)[0] == SessionTimer(900, False)
    assert answered(TIMER, current=SessionTimer(600, we_refresh=False))[0] == SessionTimer(600, False)


# ---------------------------------------------------------------- caller


def test_what_a_first_request_asks_for():
    assert offer_timer(CONFIG) == [("Session-Expires", "1800")]
    config = SessionTimerConfig(1200, 120, "they")
    assert offer_timer(config) == [("Session-Expires", "1200;refresher=uas"), ("Min-SE", "120")]
    assert offer_timer(CONFIG, interval_s=3600, min_se_s=3600) == [("Session-Expires", "3600"), ("Min-SE", "3600")]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Session-Expires", "900;refresher=uac")], SessionTimer(900, True)),
        ([("Session-Expires", "900;refresher=uas")], SessionTimer(900, False)),
        ([("Session-Expires", "900")], SessionTimer(900, True)),
        ([("Session-Expires", "5;refresher=uac")], SessionTimer(90, True)),
        ([], SessionTimer(1800, True)),
        ([("Session-Expires", "nonsense")], SessionTimer(1800, True)),
    ],
)
def test_what_an_answer_makes_of_it(headers: list[tuple[str, str]], expected: SessionTimer):
    assert read_answer(response(200, *headers), offered_s=1800) == expected


def test_no_timer_where_nobody_wants_one():
    assert read_answer(response(200), offered_s=0) is None
    assert read_answer(response(200, ("Session-Expires", "600;refresher=uas")), offered_s=0) == SessionTimer(600, False)


def test_after_a_422():
    assert retry_interval(response(422, ("Min-SE", "3600")), offered_s=1800) == 3600
    assert retry_interval(response(422, ("Min-SE", "1800")), offered_s=1800) is None  # it would say the same again
    assert retry_interval(response(422), offered_s=1800) is None
    assert retry_interval(response(422, ("Min-SE", "9999999")), offered_s=1800) is None
    assert retry_interval(response(486, ("Min-SE", "3600")), offered_s=1800) is None


# ---------------------------------------------------------------- times


def test_when_to_refresh_and_when_to_give_up():
    timer = SessionTimer(1800, True)
    assert (timer.refresh_after_s, timer.give_up_after_s) == (900, 1768)
    assert SessionTimer(90, True).give_up_after_s == 60  # a third, when that is less than 32 s


def test_a_refresh_of_ours_keeps_the_roles():
    assert SessionTimer(600, True).to_headers() == [("Session-Expires", "600;refresher=uac")]
    assert SessionTimer(600, False).to_headers(min_se_s=120) == [
        ("Session-Expires", "600;refresher=uas"),
        ("Min-SE", "120"),
    ]


@pytest.mark.parametrize(("expires_s", "min_se_s"), [(1800, 60), (80, 90), (90_000, 90), (100, 200)])
def test_a_configuration_that_makes_no_sense(expires_s: int, min_se_s: int):
    with pytest.raises(ValueError):
        SessionTimerConfig(expires_s, min_se_s)
