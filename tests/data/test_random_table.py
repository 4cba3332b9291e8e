import numpy as np

from stillroom.data.random_table import Purpose, random_table


def test_rows_do_not_depend_on_the_table_size():
    small = random_table(3, 7, Purpose.AUGMENT, 10, 8)
    assert np.array_equal(small, random_table(3, 7, Purpose.AUGMENT, 1000, 8)[:10])
    for other in ((4, 7, Purpose.AUGMENT), (3, 8, Purpose.AUGMENT), (3, 7, Purpose.ORDER)):
        assert not np.array_equal(small, random_table(*other, 10, 8))
