import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
import torch

from stillroom.boxes import ImageBoxes
from stillroom.data import Augment
from stillroom.data.boxed_loader import BoxedLoader
from stillroom.data.boxed_view import padded_size, resized_size
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from tests.data.boxed_images import boxed_source, image_boxes, random_boxed_source

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
FLIP = Augment(pad=0, flip=True)


def loader(source, **options):
    given = {"batch_size": 4, "input_format": InputFormat(MEAN, STD), "augment": FLIP, "shuffle": True}
    return source.loader(**given | options)


@pytest.fixture(scope="module")
def source():
    """Eleven images: with four in a batch, the last step has three, and some processes of four a stand-in."""
    return random_boxed_source(11, ids=torch.arange(11) * 3 + 2)


def assert_same(batch, row, other, other_row):
    assert torch.equal(batch.images[row], other.images[other_row])
    assert torch.equal(batch.pixels[row], other.pixels[other_row])
    one, two = batch.targets[row], other.targets[other_row]
    assert torch.equal(one.boxes, two.boxes)
    assert torch.equal(one.labels, two.labels)
    assert torch.equal(one.crowd, two.crowd)
    assert one.size == two.size


@pytest.mark.parametrize(
    ("world_size", "workers", "start"), [(1, 1, 0), (1, 3, 1), (2, 0, 0), (3, 1, 1), (4, 0, 2), (1, 0, 2)]
)
def test_batches_are_the_same_under_any_number_of_processes_and_workers_and_at_any_start(
    source, world_size, workers, start
):
    whole = list(loader(source).epoch(1))
    for rank in range(world_size):
        part = loader(source, rank=rank, world_size=world_size, workers=workers)
        batches = list(part.epoch(1, start))
        assert len(batches) == len(whole) - start
        for step, (batch, expected) in enumerate(zip(batches, whole[start:], strict=True), start):
            first = (rank - part.first_owner(step)) % world_size
            rows = range(first, len(expected.ids), world_size)
            assert batch.stand_in == (not rows)
            assert batch.ids.tolist() == expected.ids[list(rows) or [0]].tolist()
            assert batch.start == part.own_before(step)
            for row, other in enumerate(rows or [0]):
                assert_same(batch, row, expected, other)


def test_an_image_has_the_same_view_in_any_batch_but_for_the_padding(source):
    views = []
    for size in (2, 5):
        views.append({})
        for batch in loader(source, batch_size=size).epoch(3):
            for number, image, target in zip(batch.ids.tolist(), batch.images, batch.targets, strict=True):
                height, width = target.size
                views[-1][number] = image[:, :height, :width], target.boxes
    shared = views[0].keys() & views[1].keys()
    assert len(shared) >= 10
    for number in shared:
        assert all(torch.equal(one, two) for one, two in zip(views[0][number], views[1][number], strict=True))


def test_half_of_the_images_are_mirrored_and_others_in_each_epoch(source):
    plain = {
        int(batch.ids): batch.pixels for batch in loader(source, batch_size=1, augment=None, shuffle=False).epoch(0)
    }
    mirrored = []
    for epoch in range(1, 5):
        for batch in loader(source, batch_size=1, shuffle=False).epoch(epoch):
            (target,), expected = batch.targets, plain[int(batch.ids)]
            width = target.size[1]
            turned = not torch.equal(batch.pixels, expected)
            if turned:
                assert torch.equal(batch.pixels[..., :width], expected[..., :width].flip(3))
            mirrored.append(turned)
    patterns = {tuple(mirrored[start : start + 11]) for start in range(0, 44, 11)}
    assert 12 <= sum(mirrored) <= 32
    assert len(patterns) == 4


@pytest.mark.parametrize("size", [(40, 70), (64, 37), (32, 32)], ids=str)
def test_a_drawn_rectangle_stays_in_its_box(size):
    height, width = size
    image = np.zeros((3, height, width), np.uint8)
    left, top, right, bottom = 4, 10, 24, 28
    image[:, top:bottom, left:right] = 255
    objects = image_boxes([[left, top, right, bottom]], [0], size)
    several = boxed_source([image] * 8, [objects] * 8)
    seen = set()
    for batch in loader(several, batch_size=8).epoch(1):
        for pixels, target in zip(batch.pixels, batch.targets, strict=True):
            rows, columns = (torch.nonzero((pixels[0] > 127).any(axis)).flatten() for axis in (1, 0))
            found = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            torch.testing.assert_close(found.float(), target.boxes[0], atol=0.75, rtol=0)
            assert target.size == resized_size(size, 32, 53)
            seen.add(tuple(target.boxes[0].tolist()))
    assert len(seen) == 2  # mirrored and not


def test_images_are_normalised_and_padded_with_zeros_to_the_size_of_the_step(source):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    for batch in loader(source).epoch(1):
        assert batch.images.dtype == torch.float32
        assert batch.pixels.dtype == torch.uint8
        sizes = torch.tensor([target.size for target in batch.targets])
        assert tuple(batch.images.shape[2:]) == tuple(batch.pixels.shape[2:]) == padded_size(sizes)
        assert batch.labels.tolist() == [0] * len(batch.ids)
        for image, pixels, target in zip(batch.images, batch.pixels, batch.targets, strict=True):
            height, width = target.size
            inside = (pixels[:, :height, :width] / 255 - mean) / std
            torch.testing.assert_close(image[:, :height, :width], inside, atol=2e-6, rtol=0)
            for view in (image, pixels):
                assert not view[:, height:].any()
                assert not view[:, :, width:].any()


def test_targets_are_the_objects_of_the_images_with_crowds(source):
    last = source.objects[3]
    crowded = replace(source, objects=(*source.objects[:3], replace(last, crowd=~last.crowd), *source.objects[4:]))
    (batch,) = loader(crowded, batch_size=11, augment=None, shuffle=False).epoch(0)
    for place, target in enumerate(batch.targets):
        assert isinstance(target, ImageBoxes)
        assert torch.equal(target.labels, crowded.objects[place].labels)
        assert target.crowd.tolist() == [place == 3] * len(target)


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_have_the_memory_format(source, channels_last):
    batch = next(loader(source, channels_last=channels_last).epoch(1))
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert batch.images.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_earlier_steps_are_not_read(source, workers):
    whole = list(loader(source).epoch(1))
    skipped = set(loader(source).order(1)[:8].tolist())
    store = tuple(b"damaged" if place in skipped else data for place, data in enumerate(source.store))
    (rest,) = loader(replace(source, store=store), workers=workers).epoch(1, 2)
    assert torch.equal(rest.images, whole[2].images)
    with pytest.raises(InputError, match=r"image \d+ cannot be read \(not an image\); repair the file"):
        list(loader(replace(source, store=store), workers=workers).epoch(1))


def test_an_image_of_another_size_than_its_boxes_were_read_for_is_named(source):
    height, width = source.sizes[5].tolist()
    other = replace(source, sizes=source.sizes.index_fill(0, torch.tensor([5]), 50))
    with pytest.raises(InputError, match=rf"image 5 has {width}x{height} pixels and not 50x50, .* restore the file"):
        list(loader(other).epoch(1))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_number_of_batches_read_ahead_is_bounded(workers):
    class Counting(BoxedLoader):
        asked = 0

        def _wanted(self, *args):
            self.asked += 1
            return super()._wanted(*args)

    reading = Counting(random_boxed_source(20), batch_size=1, input_format=InputFormat(MEAN, STD), shuffle=False,
                       workers=workers)  # fmt: skip
    most = max(reading.asked - number for number, _ in enumerate(reading.epoch(0), 1))
    assert reading.asked == 20
    assert most <= 2 * workers + 2


def test_workers_end_with_an_epoch_that_is_left(source):
    before = {child.pid for child in multiprocessing.active_children()}
    epoch = loader(source, batch_size=2, workers=2).epoch(1)
    next(epoch)
    assert {child.pid for child in multiprocessing.active_children()} > before
    epoch.close()
    assert {child.pid for child in multiprocessing.active_children()} <= before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strong": True}, "strong is True, which is not available for object detection yet; give strong=False"),
        ({"balanced": True}, "balanced is True, which is not available"),
        ({"augment": Augment()}, "pad is 4, which is not available for object detection yet; give pad=0"),
        ({"augment": replace(FLIP, min_scale=0.5)}, "min_scale is 0.5.*give min_scale=1.0"),
        ({"augment": replace(FLIP, auto_augment="rand")}, "auto_augment is rand.*give auto_augment=none"),
        ({"augment": replace(FLIP, mixup=0.2)}, "mixup is 0.2"),
        ({"augment": replace(FLIP, colour_jitter=0.2)}, "colour_jitter is 0.2"),
        ({"input_format": InputFormat(MEAN, STD, (64, 48))}, "the input format has 48x64 pixels"),
        ({"batch_size": 2, "world_size": 3}, "batch_size is 2 with 3 processes"),
    ],
)
def test_what_is_not_available_is_refused(source, options, words):
    with pytest.raises(InputError, match=words):
        loader(source, **options)
