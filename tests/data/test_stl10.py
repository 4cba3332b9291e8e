"""STL-10 from files in the published layout: orientation, labels from 1, checksums, and a set at another size."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from torchvision.datasets import STL10

from stillroom.data import load_data
from stillroom.errors import InputError

COUNTS = {"train": 20, "test": 10}


@pytest.fixture
def stl10(tmp_path, monkeypatch):
    """A root with a small set in the published layout, whose checksums are the published ones."""
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for split, count in COUNTS.items():
        images = generator.integers(0, 256, (count, 3, 96, 96), np.uint8)
        images[0, :, 5, 90] = (250, 1, 2)  # row 5, column 90
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 1, 3, 2).tobytes())
        (folder / f"{split}_y.bin").write_bytes((np.arange(count, dtype=np.uint8) % 10 + 1).tobytes())
    sums = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in folder.iterdir()}
    for name in ("train_list", "test_list"):
        listed = [[file, sums.get(file, md5)] for file, md5 in getattr(STL10, name)]
        monkeypatch.setattr(STL10, name, listed)
    return tmp_path


def test_images_stand_upright_and_labels_count_from_zero(stl10):
    data = load_data("stl10", root=stl10, download=False)
    assert (len(data.train), len(data.val), data.input_shape) == (20, 10, (3, 96, 96))
    assert data.train.pixels(data.train.ids[:1])[0, :, 5, 90].tolist() == [250, 1, 2]
    assert data.train.labels.tolist() == [*range(10)] * 2
    assert data.train.classes[5] == "dog"


def test_it_is_resized_like_other_sets(stl10):
    assert load_data("stl10", root=stl10, download=False, image_size=32).input_shape == (3, 32, 32)


def test_damaged_and_missing_files_are_named(stl10):
    path = stl10 / "stl10_binary" / "test_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"STL10 is not in .*test_X\.bin is damaged"):
        load_data("stl10", root=stl10, download=False)
    path.unlink()
    with pytest.raises(InputError, match=r"test_X\.bin is missing"):
        load_data("stl10", root=stl10, download=False)
