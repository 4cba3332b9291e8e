import pytest
import torch

from stillroom.data.image_set import ImageSet
from stillroom.errors import InputError
from stillroom.probe.corrupted_sets import CStyleSet, even_choice, in_memory, severities_of
from stillroom.probe.corruptions import corrupted


def some_images(channels: int = 3) -> ImageSet:
    images = torch.randint(256, (4, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet(images, torch.arange(4), torch.tensor([9, 3, 5, 7]), ("a", "b", "c", "d"))


def test_an_image_is_corrupted_by_its_id():
    images = some_images()
    (made,) = CStyleSet(in_memory(images, torch.tensor([2, 0])), 1).images("fog", 2)
    assert made.images.equal(corrupted(images.images[[2, 0]], torch.tensor([5, 9]), "fog", 2, seed=1))
    assert made.labels.tolist() == [2, 0]


def test_images_of_two_channels_are_refused():
    with pytest.raises(InputError, match="1 or 3"):
        CStyleSet(some_images(2), 0)


def test_each_class_has_its_fraction_of_the_chosen_images():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 30)[torch.randperm(120, generator=torch.Generator())]
    chosen = even_choice(labels, 40)
    assert torch.bincount(labels[chosen]).tolist() == [20, 10, 10]
    assert chosen.equal(chosen.sort().values)
    assert even_choice(labels, 0).equal(torch.arange(120))
    assert even_choice(labels, 500).equal(torch.arange(120))


def test_severities_are_numbers_from_1_to_5():
    assert severities_of(None) == (1, 2, 3, 4, 5)
    assert severities_of(["5", "2"]) == (2, 5)
    with pytest.raises(InputError, match="severities=6"):
        severities_of(["6"])
