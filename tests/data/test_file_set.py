from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stillroom.data import Augment, Loader, load_data
from stillroom.data.file_set import FileSet
from stillroom.errors import InputError
from stillroom.input_format import InputFormat

FORMAT = InputFormat((0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def both(image_folder):
    """The same class folders in memory and as files."""
    root = image_folder(count=5, size=(16, 12))
    for path in root.glob("*/*.png"):  # pixels that tell crops apart
        noise = np.random.default_rng(len(path.name) + ord(path.name[0]) + ord(path.parent.name[0]))
        Image.fromarray(noise.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(path)
    return [load_data(root, image_size=8, val_fraction=0.3, source=kind) for kind in ("memory", "files")]


def test_files_hold_the_same_split_as_memory(both):
    memory, files = both
    assert (memory.mean, memory.std, memory.augment) == (files.mean, files.std, files.augment)
    for one, other in ((memory.train, files.train), (memory.val, files.val)):
        assert isinstance(other, FileSet)
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.content(), other.content())
        assert torch.equal(one.images, other.pixels(torch.arange(len(other))))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("augment", [None, Augment(pad=2), Augment(pad=2, rotate=20)])
def test_batches_are_those_from_memory_for_any_number_of_workers(both, augment, workers):
    options = {"batch_size": 3, "input_format": FORMAT, "augment": augment, "shuffle": True, "strong": True}
    memory, files = (Loader(data.train, workers=workers, **options) for data in both)
    count = 0
    for one, other in zip(memory.epoch(2), files.epoch(2), strict=True):
        for name in ("images", "strong", "labels", "ids", "pixels", "strong_pixels"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        count += 1
    assert count > 1


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("options", [{"balanced": True}, {"augment": Augment(pad=2, mixup=0.5, cutmix=1.0)}])
def test_mixed_and_balanced_batches_are_those_from_memory(both, options, rank):
    memory, files = (
        Loader(data.train, input_format=FORMAT, shuffle=True, rank=rank, world_size=2, workers=workers,
               **{"batch_size": 5, "augment": Augment(pad=2)} | options)
        for workers, data in enumerate(both)
    )  # fmt: skip
    for one, other in zip(memory.epoch(2), files.epoch(2), strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.ids, other.ids)
        if one.mixture is not None:
            assert torch.equal(one.mixture.fraction, other.mixture.fraction)
            assert torch.equal(one.mixture.labels, other.mixture.labels)


def test_mixed_crops_of_whole_images_do_not_depend_on_processes(both):
    augment = Augment(pad=0, flip=False, min_scale=0.05, mixup=1.0)
    options = {"input_format": FORMAT, "augment": augment, "shuffle": True, "batch_size": len(both[1].train)}
    whole = next(Loader(both[1].train, **options).epoch(1))
    for rank in (0, 1):
        part = next(Loader(both[1].train, rank=rank, world_size=2, **options).epoch(1))
        assert torch.equal(part.pixels, whole.pixels[rank::2])


def test_crops_of_whole_images_follow_from_the_epoch(both):
    files = both[1].train
    augment = Augment(pad=0, flip=False, min_scale=0.05)
    loader = Loader(files, batch_size=len(files), input_format=FORMAT, augment=augment, shuffle=False, strong=True)
    first, again, later = (next(loader.epoch(epoch)) for epoch in (1, 1, 2))
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, later.pixels)
    assert first.pixels.shape == first.strong_pixels.shape == (len(files), 3, 8, 8)


def test_the_fingerprint_follows_files_order_and_framing(both):
    files = both[1].train
    turned = files.at(torch.arange(len(files) - 1, -1, -1))
    other = replace(files, framing=replace(files.framing, crop_fraction=0.5))
    assert len({files.fingerprint, turned.fingerprint, other.fingerprint}) == 3
    assert replace(files).fingerprint == files.fingerprint


def test_vectors_of_another_length_are_refused(both):
    files = both[1].train
    with pytest.raises(InputError, match=r"labels is torch\.int64"):
        replace(files, labels=files.labels[:-1])
