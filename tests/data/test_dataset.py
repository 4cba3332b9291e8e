import pytest
import torch

from stillroom.data import Augment, DataSet, ImageSet
from stillroom.errors import InputError


def image_set(shape=(3, 8, 8), classes=("a", "b")):
    images = torch.zeros(4, *shape, dtype=torch.uint8)
    return ImageSet(images, torch.arange(4) % len(classes), torch.arange(4), classes)


@pytest.mark.parametrize(
    ("val", "mean", "message"),
    [
        (image_set((3, 8, 12)), 3, r"\(3, 8, 8\) and validation images \(3, 8, 12\)"),
        (image_set((1, 8, 8)), 3, r"\(3, 8, 8\) and validation images \(1, 8, 8\)"),
        (image_set(classes=("a", "c")), 3, r"classes .* differ \('b' and 'c'\)"),
        (image_set(classes=("a", "b", "c")), 3, r"classes .* differ \(None and 'c'\)"),
        (image_set(), 1, "mean and std have 1 and 1 values; give 3"),
    ],
)
def test_splits_that_do_not_fit_each_other_are_refused(val, mean, message):
    with pytest.raises(InputError, match=message):
        DataSet("mine", image_set(), val, (0.5,) * mean, (0.2,) * mean, Augment())


def test_validation_images_have_labels_or_none_of_them_has():
    whole = image_set()
    DataSet("mine", whole, whole.without_labels(), (0.5,) * 3, (0.2,) * 3, Augment())
    some = ImageSet(whole.images, torch.tensor([0, -1, 1, 1]), whole.ids, whole.classes)
    DataSet("mine", some, whole, (0.5,) * 3, (0.2,) * 3, Augment())
    with pytest.raises(InputError, match="1 of 4 validation images have no label"):
        DataSet("mine", whole, some, (0.5,) * 3, (0.2,) * 3, Augment())
