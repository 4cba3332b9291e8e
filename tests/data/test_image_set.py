import pytest
import torch

from stillroom.data import ImageSet
from stillroom.data.content_hash import hash_images
from stillroom.errors import InputError


def test_select_first_classes_and_first_images_in_id_order(small_set):
    shuffled = torch.randperm(103, generator=torch.Generator().manual_seed(0))
    mixed = ImageSet(small_set.images[shuffled], small_set.labels[shuffled], small_set.ids[shuffled], small_set.classes)
    chosen = mixed.select(first_classes=2, per_class=3)
    assert chosen.classes == ("a", "b")
    assert chosen.ids.tolist() == [7 + 3 * place for place in (0, 1, 5, 6, 10, 11)]
    assert chosen.labels.tolist() == [0, 1] * 3
    assert torch.equal(chosen.images, small_set.images[[0, 1, 5, 6, 10, 11]])
    assert mixed.select() is mixed


def test_images_of_some_classes_come_in_id_order_with_new_labels(small_set):
    shuffled = torch.randperm(103, generator=torch.Generator().manual_seed(0))
    labels = small_set.labels[shuffled].where(shuffled > 20, torch.tensor(-1))
    mixed = ImageSet(small_set.images[shuffled], labels, small_set.ids[shuffled], small_set.classes)
    chosen = mixed.of_classes((1, 4))
    places = [place for place in range(21, 103) if place % 5 in (1, 4)]  # images without a label are in no class
    assert chosen.classes == ("b", "e")
    assert chosen.ids.tolist() == [7 + 3 * place for place in places]
    assert chosen.labels.tolist() == [int(place % 5 == 4) for place in places]
    assert torch.equal(chosen.images, small_set.images[places])
    with pytest.raises(InputError, match="only_classes selects by label, and no image has one"):
        small_set.without_labels().of_classes((0, 1))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"first_classes": 1}, "first_classes is 1; give 2 to 5"),
        ({"first_classes": 6}, "first_classes is 6; give 2 to 5"),
        ({"per_class": 21}, "per_class is 21; give 1 to 20, the images of class 'd'"),
        ({"per_class": 0}, "per_class is 0"),
    ],
)
def test_select_names_what_is_wrong(small_set, bad, words):
    with pytest.raises(InputError, match=words):
        small_set.select(**bad)


def test_image_set_checks_its_tensors(small_set):
    images, labels, ids = small_set.images, small_set.labels, small_set.ids
    with pytest.raises(InputError, match=r"images is torch\.float32"):
        ImageSet(images.float(), labels, ids, small_set.classes)
    with pytest.raises(InputError, match="labels is"):
        ImageSet(images, labels[:5], ids, small_set.classes)
    with pytest.raises(InputError, match="labels run from 0 to 4; with 4 classes"):
        ImageSet(images, labels, ids, small_set.classes[:4])
    with pytest.raises(InputError, match="digests is"):
        ImageSet(images, labels, ids, small_set.classes, digests=ids[:3])


def test_content_is_the_hash_of_the_pixels_unless_hashes_are_given(small_set):
    assert torch.equal(small_set.content(), hash_images(small_set.images))
    hashed = small_set.hashed()
    assert torch.equal(hashed.digests, small_set.content())
    assert torch.equal(hashed.at(torch.tensor([5, 2])).content(), small_set.content()[[5, 2]])
    assert torch.equal(hashed.select(per_class=1).content(), small_set.content()[:5])


def test_images_without_a_label_are_counted_and_in_no_selection(small_set):
    labels = small_set.labels.clone()
    labels[::2] = -1
    partial = ImageSet(small_set.images, labels, small_set.ids, small_set.classes)
    assert partial.unlabelled == 52
    assert torch.equal(partial.labelled().ids, small_set.ids[1::2])
    assert (partial.select(first_classes=3).labels >= 0).all()
    assert sorted(partial.select(per_class=2).labels.tolist()) == sorted(2 * list(range(5)))
    assert partial.without_labels().unlabelled == 103
    with pytest.raises(InputError, match="select by label, and no image has one"):
        partial.without_labels().select(per_class=2)
    with pytest.raises(InputError, match="labels run from -2"):
        ImageSet(small_set.images, labels * 2, small_set.ids, small_set.classes)
