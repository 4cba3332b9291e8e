"""The generated photographs: deterministic, of realistic size, and different from class to class."""

import io

import numpy as np
import pytest
from PIL import Image

from stillroom.data import load_data
from stillroom.data.photo_generator import MIXED_SIZES, PhotoSettings, photo, write_photos
from stillroom.errors import InputError


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.JPEG")}


def test_a_set_loads_and_does_not_depend_on_the_processes(tmp_path):
    for processes in (1, 2):
        assert write_photos(tmp_path / str(processes), 3, 40, 2, size=(24, 16), processes=processes) == 126
    one, two = (files_of(tmp_path / name) for name in "12")
    assert one == two
    assert len(set(one.values())) == 126
    data = load_data(tmp_path / "1")
    assert (len(data.train), len(data.val)) == (120, 6)
    assert data.train.classes == ("n00000000", "n00000001", "n00000002")
    assert tuple(data.train.images.shape[1:]) == (3, 16, 24)


def test_a_larger_set_extends_a_smaller_one(tmp_path):
    write_photos(tmp_path / "small", 2, 2, 1, size=(16, 16), processes=1)
    before = files_of(tmp_path / "small")
    assert write_photos(tmp_path / "small", 3, 3, 1, size=(16, 16), processes=1) == 12 - 6
    write_photos(tmp_path / "large", 3, 3, 1, size=(16, 16), processes=1)
    after = files_of(tmp_path / "small")
    assert after == files_of(tmp_path / "large")
    assert before.items() <= after.items()


def test_files_are_as_large_as_photographs():
    sizes = [len(photo(PhotoSettings(), "train", label, 0)) for label in range(12)]
    assert 80_000 < np.mean(sizes) < 120_000


def test_mixed_sizes_and_a_range_of_qualities():
    settings = PhotoSettings(size="mixed", quality=(60, 95))
    images = [Image.open(io.BytesIO(photo(settings, "val", 0, index))) for index in range(12)]
    assert {image.size for image in images} <= {size[:2] for size in MIXED_SIZES}
    assert len({image.size for image in images}) > 2
    assert len({str(image.quantization) for image in images}) > 2


def test_another_seed_split_class_or_index_is_another_image():
    small = PhotoSettings(size=(16, 16))
    made = [photo(small, "train", 0, 0), photo(small, "val", 0, 0), photo(small, "train", 1, 0)]
    made += [photo(small, "train", 0, 1), photo(PhotoSettings(seed=1, size=(16, 16)), "train", 0, 0)]
    assert len(set(made)) == 5


def test_classes_can_be_told_apart_by_the_nearest_class_mean():
    settings = PhotoSettings(size=(64, 48))

    def pixels(split, label, index):
        image = Image.open(io.BytesIO(photo(settings, split, label, index))).resize((8, 6))
        values = np.asarray(image, dtype=np.float64)
        return (values - values.mean()).ravel()

    means = np.stack([np.mean([pixels("train", label, i) for i in range(12)], axis=0) for label in range(5)])
    found = [np.abs(means - pixels("val", label, i)).sum(1).argmin() == label for label in range(5) for i in range(6)]
    assert np.mean(found) > 0.7  # chance is 0.2


@pytest.mark.parametrize(
    ("options", "word"),
    [({"classes": 1}, "classes"), ({"per_class": 0}, "per_class"), ({"size": (500, 7)}, "size"),
     ({"quality": 101}, "quality"), ({"quality": (90, 80)}, "quality"), ({"seed": -1}, "seed")],
)  # fmt: skip
def test_arguments_outside_their_range_are_refused(tmp_path, options, word):
    with pytest.raises(InputError, match=word):
        write_photos(tmp_path / "set", **options)
    assert not (tmp_path / "set").exists()
