"""Refusals in the log: at once, then summed up."""

from ims_as.defence.refusal_log import RefusalLog


def test_the_first_is_told_at_once_and_the_rest_once_a_second():
    written: list[tuple[str, int]] = []
    log = RefusalLog(lambda reason, count: written.append((reason, count)))
    for step in range(1000):
        log.note("calls", 10.0 + step / 500)
    assert written == [("calls", 1), ("calls", 500)]
    log.flush(11.5)
    assert len(written) == 2
    log.flush(12.0)
    assert sum(count for _, count in written) == 1000
    log.flush(20.0)
    assert len(written) == 3


def test_reasons_are_told_apart():
    written: list[tuple[str, int]] = []
    log = RefusalLog(lambda reason, count: written.append((reason, count)))
    for reason in ("calls", "rate", "calls"):
        log.note(reason, 5.0)
    log.flush(6.0)
    assert written == [("calls", 1), ("rate", 1), ("calls", 1)]


def test_a_flood_of_reasons_is_bounded() -> None:
    written: list[tuple[str, int]] = []
    log = RefusalLog(lambda reason, count: written.append((reason, count)))
    log.note("first", 0.0)
    written.clear()
    for number in range(5000):
        log.note(f"peer-calls of {number}", 0.5)
    log.note("peer-calls of 7", 0.5)
    log.flush(1.5)
    assert len(written) == 10
    assert written[0] == ("peer-calls of 7", 2)
