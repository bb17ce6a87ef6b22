"""Result codes as typed errors: every one of TS 29.329 §6.2."""

from __future__ import annotations

import pytest

from diameter.dictionary.sh import ShResultCode
from diameter.message import Result
from diameter.sh import errors
from diameter.sh.data_reference import Operation
from diameter.sh.results import MEANINGS, describe_result, error_of


@pytest.mark.parametrize("code", list(ShResultCode), ids=lambda code: code.name)
def test_every_experimental_result_has_a_meaning(code: ShResultCode) -> None:
    result = Result(code, 10415)
    assert MEANINGS[result].text
    assert describe_result(result) == f"{int(code)} {code.name}: {MEANINGS[result].text}"
    error = error_of(result, Operation.PULL, (0, 13))
    if code is ShResultCode.USER_UNKNOWN:
        assert isinstance(error, errors.ShUserUnknownError)
        return
    assert isinstance(error, errors.ShRefusedError)
    assert type(error) is not errors.ShRefusedError
    assert (error.result, error.is_transient) == (result, code < 5000)
    again = error.renewed()
    assert (type(again), str(again), again.references) == (type(error), str(error), error.references)


@pytest.mark.parametrize(
    ("code", "operation", "text"),
    [
        (5102, Operation.PULL, "to UDR of RepositoryData, InitialFilterCriteria: this Origin-Host may not read it"),
        (5103, Operation.UPDATE, "to PUR of RepositoryData, InitialFilterCriteria: this Origin-Host may not change"),
        (5104, Operation.SUBSCRIBE, "to SNR of RepositoryData, InitialFilterCriteria: this Origin-Host may not subs"),
    ],
)
def test_permission_errors_name_operation_and_data(code: int, operation: Operation, text: str) -> None:
    error = error_of(Result(code, 10415), operation, (0, 13))
    assert isinstance(error, errors.ShPermissionError)
    assert error.operation == operation.value
    assert error.references == ("RepositoryData", "InitialFilterCriteria")
    assert text in str(error)


@pytest.mark.parametrize("result", [Result(5001, 10415), Result(5030), Result(5030, 10415)])
def test_unknown_users(result: Result) -> None:
    assert isinstance(error_of(result, Operation.PULL, (0,)), errors.ShUserUnknownError)
    assert "does not know this identity" in describe_result(result)


@pytest.mark.parametrize("result", [Result(5001), Result(5012), Result(3004), Result(5999), Result(5101, 99)])
def test_other_refusals(result: Result) -> None:
    assert type(error_of(result, Operation.PULL, (0, 99))) is errors.ShRefusedError


def test_words_for_results() -> None:
    assert describe_result(Result(5012)) == "5012 UNABLE_TO_COMPLY: the HSS has a problem of its own"
    assert describe_result(Result(5999, 10415)) == "5999"
    assert describe_result(Result(5101, 99)) == "5101 of vendor 99"
