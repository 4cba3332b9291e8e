import numpy as np
import torch

from stillroom.data.decoding import Decoded
from stillroom.data.listing import Listing


def listing(labels):
    names = [f"{number}.png" for number in range(len(labels))]
    classes = tuple(str(label) for label in range(max(labels) + 1))
    return Listing("here", names, np.array(labels), classes, lambda: iter([]))


def test_a_split_keeps_every_image_with_its_label_and_id():
    labels = [0, 1] * 100
    images = torch.arange(200, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 2, 2)
    places = np.delete(np.arange(200), [0, 7, 150])  # broken ones
    digests = torch.arange(200)[places]
    one, other = listing(labels).split(Decoded(images[places], digests, places, (0, 7, 150)), 0.3, 0)
    assert sorted(one.ids.tolist() + other.ids.tolist()) == places.tolist()
    for side in (one, other):
        assert side.images[:, 0, 0, 0].tolist() == side.ids.tolist() == side.content().tolist()
        assert side.labels.tolist() == [i % 2 for i in side.ids.tolist()]
        assert side.ids.tolist() == sorted(side.ids.tolist())


def test_classes_of_one_image_are_named():
    assert listing([0, 0, 1]).too_small_to_split().startswith("1 class of here with one image cannot be split: 1;")
    assert listing([0, 0, 1, 1]).too_small_to_split() == ""
