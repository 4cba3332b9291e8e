"""Recognising the layout of a folder."""

import pytest

from stillroom.data.list_folder import list_folder
from stillroom.errors import InputError


def test_class_folders_with_and_without_a_split(tmp_path, image_folder):
    train, val = list_folder(image_folder("plain") / "plain")
    assert (len(train.names), val) == (6, None)
    image_folder("set/train")
    image_folder("set/val", count=1)
    train, val = list_folder(tmp_path / "set")
    assert (len(train.names), len(val.names)) == (6, 2)
    assert train.classes == val.classes == ("ant", "bee")


def test_parquet_comes_before_class_folders(tmp_path, image_folder, parquet_file):
    image_folder()
    parquet_file(tmp_path / "train.parquet", [0, 1, 1])
    train, val = list_folder(tmp_path)
    assert list(train.labels) == [0, 1, 1]
    assert val is None


def test_without_labels_images_may_lie_outside_of_class_folders(tmp_path, image):
    image(1).save(tmp_path / "one.png")
    train, _ = list_folder(tmp_path, labels="none", classes=["ant", "bee"])
    assert list(train.labels) == [-1]


def test_class_depth_without_class_folders_is_refused(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 1])
    with pytest.raises(InputError, match="class_depth is 2 but"):
        list_folder(tmp_path, 2)
