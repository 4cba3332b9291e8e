from __future__ import annotations

import pytest
import torch

from stillroom.config import make_recipe
from stillroom.data import ImageSet
from stillroom.engine.loaders import make_loaders, val_batch
from stillroom.errors import InputError
from stillroom.runtime.device import Machine


def test_training_is_shuffled_and_augmented_and_validation_is_not(tiny_data):
    recipe = make_recipe("train", {"model": "m", "data": "tiny", "epochs": 1, "batch_size": 16, "seed": 3})
    train, val = make_loaders(tiny_data, recipe, Machine(torch.device("cpu"), "32"), strong=True)
    ((_, first),) = next(train.epoch(1))
    assert first.strong is not None
    assert first.ids.tolist() != list(range(16))
    assert not torch.equal(first.images, next(train.loader.epoch(2)).images)
    (whole,) = val.epoch(0)
    assert whole.strong is None
    assert whole.ids.tolist() == tiny_data.val.ids.tolist()


def grey_images(count):
    labels = torch.zeros(count, dtype=torch.int64)
    return ImageSet(torch.zeros(count, 1, 1, 1, dtype=torch.uint8), labels, torch.arange(count), ("a",))


@pytest.mark.parametrize(("images", "world_size"), [(10_000, 64), (5, 5), (1000, 3), (700, 600)])
def test_every_process_has_the_same_validation_steps_and_a_part_in_the_first(images, world_size):
    size = val_batch(grey_images(images), 100, Machine(torch.device("cpu"), "32", 0, world_size))
    assert world_size <= size <= max(256, world_size)


def test_fewer_validation_images_than_processes_are_refused():
    with pytest.raises(InputError, match="3 validation images for 4 processes"):
        val_batch(grey_images(3), 64, Machine(torch.device("cpu"), "32", 0, 4))
