from __future__ import annotations

from ims_as.errors import ConfigError, Problem, Result, Termination


def test_problem_says_where() -> None:
    assert str(Problem("sip.listen[1]", "is odd", 3)) == "sip.listen[1]: is odd (line 3)"
    assert str(Problem("", "is odd")) == "is odd"


def test_config_error_carries_all_problems() -> None:
    error = ConfigError([Problem("a", "x"), Problem("b", "y")])
    assert len(error.problems) == 2
    assert str(error) == "a: x\nb: y"


def test_termination_is_a_value() -> None:
    ended = Termination(Result.REJECTED, "ims-as", "engine-refused", 503)
    assert ended == Termination(Result("rejected"), "ims-as", "engine-refused", 503)
