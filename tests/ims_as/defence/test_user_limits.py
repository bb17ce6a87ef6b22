from ims_as.defence.user_limits import MAX_USERS, UserLimits


def start(
    limits: UserLimits,
    call: str,
    now: float = 0.0,
    user: str = "sip:bob@x",
    *,
    concurrent: int | None = None,
    per_hour: int | None = None,
    per_day: int | None = None,
) -> str | None:
    return limits.start(call, user=user, concurrent=concurrent, per_hour=per_hour, per_day=per_day, now=now)


def test_so_many_at_a_time_and_a_place_is_given_back():
    limits = UserLimits()
    assert start(limits, "1", concurrent=2) is None
    assert start(limits, "2", concurrent=2) is None
    assert start(limits, "3", concurrent=2) == "concurrent-calls"
    assert start(limits, "3", user="sip:carol@x", concurrent=1) is None
    limits.end("3")
    limits.end("1")
    limits.end("1")
    assert start(limits, "4", concurrent=2) is None
    assert limits.up == 2


def test_calls_from_before_the_limit_count():
    limits = UserLimits()
    assert start(limits, "1") is None
    assert start(limits, "2", concurrent=1) == "concurrent-calls"


def test_rates_are_spread_and_what_is_refused_counts_for_nothing():
    limits = UserLimits()
    for number in range(3):
        assert start(limits, str(number), per_hour=3, per_day=5) is None
    assert start(limits, "x", per_hour=3, per_day=5) == "calls-per-hour"
    assert start(limits, "x", 1199.0, per_hour=3, per_day=5) == "calls-per-hour"
    assert start(limits, "4", 1201.0, per_hour=3, per_day=5) is None
    assert start(limits, "5", 3600.0, per_hour=3, per_day=5) is None
    assert start(limits, "x", 7200.0, per_hour=3, per_day=5) == "calls-per-day"
    assert limits.up == 5


def test_another_limit_holds_at_once():
    limits = UserLimits()
    assert start(limits, "1", per_day=10) is None
    assert start(limits, "2", per_day=1) == "calls-per-day"


def test_users_are_bounded():
    limits = UserLimits()
    for number in range(MAX_USERS + 1):
        assert start(limits, str(number), user=str(number), per_hour=1) is None
    assert start(limits, "a", user="0", per_hour=1) is None  # forgotten
    assert start(limits, "b", user=str(MAX_USERS), per_hour=1) == "calls-per-hour"
    for number in range(MAX_USERS + 1):
        limits.end(str(number))
    assert limits.up == 1
