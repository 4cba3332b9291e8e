import numpy as np
import pytest
import torch

from stillroom.data.random_table import Purpose, random_rows, random_table, rows_at, sample_keys


def test_rows_do_not_depend_on_the_table_size():
    small = random_table(3, 7, Purpose.AUGMENT, 10, 8)
    assert np.array_equal(small, random_table(3, 7, Purpose.AUGMENT, 1000, 8)[:10])
    for other in ((4, 7, Purpose.AUGMENT), (3, 8, Purpose.AUGMENT), (3, 7, Purpose.ORDER)):
        assert not np.array_equal(small, random_table(*other, 10, 8))


@pytest.mark.parametrize("columns", [1, 3, 5, 6, 7, 8])
def test_single_rows_are_those_of_numpys_generator(columns):
    ids = np.array([0, 1, 2, 3, 77, 1000, 4])
    whole = random_table(3, 7, Purpose.MIX, 1001, columns)
    assert np.array_equal(rows_at(3, 7, Purpose.MIX, ids, np.zeros_like(ids), columns), whole[ids])


def test_each_occurrence_has_rows_of_its_own_and_the_first_those_of_the_table():
    ids, occurrences = torch.tensor([5, 9, 5, 5, 0, 9]), torch.tensor([0, 0, 2, 1, 0, 1])
    keys = sample_keys(ids, occurrences)
    rows = random_rows(1, 2, Purpose.AUGMENT, keys, 8)
    table = random_table(1, 2, Purpose.AUGMENT, 10, 8)
    assert np.array_equal(rows[[0, 1, 4]], table[[5, 9, 0]])
    assert len(np.unique(rows)) == rows.size
    for order in ([3, 1], [2], [5, 4, 3, 2, 1, 0]):  # whatever else is drawn
        assert np.array_equal(random_rows(1, 2, Purpose.AUGMENT, keys[order], 8), rows[order])
    assert not np.array_equal(random_rows(2, 2, Purpose.AUGMENT, keys[2:3], 8), rows[2:3])


def test_numbers_of_later_occurrences_are_uniform():
    keys = sample_keys(torch.arange(4000) % 3, torch.arange(4000) // 3 + 1)
    rows = random_rows(0, 1, Purpose.STRONG, keys, 7)
    assert 0 <= rows.min() < 0.001
    assert 0.999 < rows.max() < 1
    assert abs(rows.mean() - 0.5) < 0.01
    assert np.abs(np.corrcoef(rows.T) - np.eye(7)).max() < 0.06
