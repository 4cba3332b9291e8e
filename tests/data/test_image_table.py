"""Names of rows, which are made when they are read."""

import pytest

from stillroom.data.image_table import RowNames


def test_names_of_rows_are_a_sequence():
    names = RowNames(["a", "b", "c"], [2, 0, 3])
    expected = ["a row 0", "a row 1", "c row 0", "c row 1", "c row 2"]
    assert list(names) == expected
    assert [names[place] for place in range(-5, 5)] == expected * 2
    assert names[1:4] == expected[1:4]
    assert len(names) == 5
    with pytest.raises(IndexError):
        names[5]
