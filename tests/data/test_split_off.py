from __future__ import annotations

import pytest

from stillroom.data.split_off import split_off
from stillroom.errors import InputError
from tests.conftest import tiny_set


def test_two_seeds_split_off_other_images_and_every_image_is_on_one_side():
    train = tiny_set(20).hashed()
    (kept, off), (_, other) = (split_off(train, 0.25, seed, "hold_out=0.25") for seed in (1, 2))
    assert off.labels.bincount().tolist() == [5] * 4
    assert sorted(kept.ids.tolist() + off.ids.tolist()) == train.ids.tolist()
    assert set(off.ids.tolist()) != set(other.ids.tolist())


def test_classes_of_one_image_are_refused_with_the_setting_to_leave_out():
    with pytest.raises(InputError, match=r"hold_out=0.25: no class has two training images.*leave hold_out out"):
        split_off(tiny_set(1).hashed(), 0.25, 2, "hold_out=0.25")
