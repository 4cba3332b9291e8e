import io
from dataclasses import replace

import pytest
import torch
from PIL import Image

from stillroom.data import Augment, DataSet
from stillroom.data.boxed_source import default_max_size
from stillroom.errors import InputError
from tests.data.boxed_images import boxed_source, image_boxes, random_boxed_source


def test_a_part_keeps_ids_sizes_and_objects():
    whole = random_boxed_source(6)
    part = whole.at(torch.tensor([4, 1]))
    assert part.ids.tolist() == [4, 1]
    assert part.sizes.tolist() == [whole.sizes[4].tolist(), whole.sizes[1].tolist()]
    assert part.objects == (whole.objects[4], whole.objects[1])
    assert torch.equal(part.content(), whole.content()[[4, 1]])
    assert torch.equal(part.pixels(torch.tensor([0])), whole.pixels(torch.tensor([4])))
    assert len(part.at(torch.tensor([], dtype=torch.long))) == 0


def moved(source, place, **changes):
    found = list(source.objects)
    found[place] = replace(found[place], **changes)
    return replace(source, objects=tuple(found))


def test_the_fingerprint_changes_with_every_object_and_size():
    source = random_boxed_source(4)
    own = source.objects[3]
    others = (
        moved(source, 3, boxes=own.boxes + 1),
        moved(source, 3, labels=1 - own.labels),
        moved(source, 3, crowd=~own.crowd),
        replace(source, classes=("ant", "wasp")),
        replace(source, image_size=33),
        replace(source, max_size=60),
        source.at(torch.tensor([1, 0, 2, 3])),
        source.at(torch.arange(3)),
        # The same objects in other images.
        replace(source, objects=(*source.objects[2:], *source.objects[:2])),
    )
    prints = {source.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 1 + len(others)
    assert source.fingerprint == random_boxed_source(4).fingerprint


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])  # a JPEG is decoded late, when its file may be closed already
def test_a_preview_is_letterboxed(kind):
    stream = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 200, 200)).save(stream, kind)
    source = boxed_source([stream.getvalue()], [image_boxes([], [], (20, 40))], image_size=32)
    (found,) = source.pixels(torch.tensor([0]))
    assert found.shape == (3, 32, 32)
    assert found[:, :16].eq(200).all()
    assert not found[:, 16:].any()


def test_an_image_that_cannot_be_read_is_named():
    source = boxed_source([b"no image"], [image_boxes([], [], (8, 8))])
    with pytest.raises(InputError, match="image 0 cannot be read"):
        source.pixels(torch.tensor([0]))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"classes": ("ant",)}, "labels of objects run from 0 to 1; with 1 classes give 0 to 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"max_size": 31}, "image_size is 32 and max_size 31"),
        ({"objects": ()}, "objects has 0 entries for 6 images"),
        ({"sizes": torch.zeros(6, 3, dtype=torch.long)}, r"sizes is torch.int64 \(6, 3\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes, problem):
    with pytest.raises(InputError, match=problem):
        replace(random_boxed_source(6), **changes)


def test_images_with_boxes_are_not_selected_by_class():
    source = random_boxed_source(2)
    assert source.select() is source
    for name in ("first_classes", "per_class"):
        with pytest.raises(InputError, match=f"{name} is 2, but an image with boxes belongs to no single class"):
            source.select(**{name: 2})


def test_a_set_with_an_augmentation_other_than_the_flip_is_refused_at_once():
    source = random_boxed_source(4)
    settings = {"name": "mine", "train": source, "val": source, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    DataSet(augment=Augment(pad=0, flip=True), **settings)
    with pytest.raises(InputError, match="rotate is 15, which is not available for object detection yet"):
        DataSet(augment=Augment(pad=0, rotate=15), **settings)


def test_the_longest_side_is_that_of_published_detectors():
    assert default_max_size(800) == 1333
