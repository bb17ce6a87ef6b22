from __future__ import annotations

import numpy as np
import pytest

from media.table import NEVER, LegTable, TableFullError


def test_rows_come_back_clean() -> None:
    table = LegTable(3)
    rows = [table.allocate() for _ in range(3)]
    assert sorted(rows) == [0, 1, 2]
    with pytest.raises(TableFullError):
        table.allocate()
    fresh = LegTable(3)
    for column in table._columns:
        column[1] = 1
    table.free(1)
    for column, untouched in zip(table._columns, fresh._columns, strict=True):
        np.testing.assert_array_equal(column[1], untouched[1])
    assert table.allocate() == 1


def test_the_highest_row_shrinks_when_all_are_gone() -> None:
    table = LegTable(8)
    rows = [table.allocate() for _ in range(5)]
    assert (table.high, table.in_use) == (5, 5)
    for row in rows:
        table.free(row)
    assert (table.high, table.in_use) == (0, 0)
    assert table.allocate() == 0


def test_a_free_row_is_never_due() -> None:
    table = LegTable(2)
    assert (table.due == NEVER).all()
    assert (table.fill_at == NEVER).all()
    assert (table.bank == -1).all()
