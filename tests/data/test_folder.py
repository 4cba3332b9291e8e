import os
import sys

import pytest

from stillroom.data import load_data
from stillroom.data.folder import list_image_folder
from stillroom.errors import InputError
from tests.data.pictures import refusal


def test_train_and_val_folders(image_folder):
    image_folder("train", count=3)
    root = image_folder("validation", count=2)
    train, val = list_image_folder(root)
    assert train.classes == val.classes == ("ant", "bee")
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert val.names == [
        "validation/ant/0.png",
        "validation/ant/1.png",
        "validation/bee/0.png",
        "validation/bee/1.png",
    ]


def test_val_comes_before_test(image_folder):
    image_folder("train")
    image_folder("test", count=1)
    assert len(list_image_folder(image_folder("val", count=2))[1].names) == 4


def test_other_files_are_left_alone_and_deeper_ones_found(image_folder, picture):
    root = image_folder()
    (root / "ant" / "Thumbs.db").write_text("")
    (root / ".git").mkdir()
    (root / "bee" / "more").mkdir()
    picture(1).save(root / "bee" / "more" / "9.JPG")
    train, val = list_image_folder(root)
    assert val is None
    assert train.classes == ("ant", "bee")
    assert train.names[-1] == "bee/more/9.JPG"
    assert len(train.names) == 7


def test_differing_classes_are_named(image_folder):
    image_folder("train", classes=("ant", "bee", "cat"))
    root = image_folder("val", classes=("ant", "bee", "dog"))
    with pytest.raises(InputError, match=r"cat only in .*train; dog only in .*val"):
        load_data(root)


def test_no_class_folders(tmp_path, picture):
    picture(0).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="has none for class folders"):
        load_data(tmp_path)
    (tmp_path / "ant").mkdir()
    with pytest.raises(InputError, match="only 'ant' for class folders"):
        load_data(tmp_path)


def test_everything_that_is_wrong_is_told_at_once(image_folder):
    image_folder("train", classes=("ant", "bee", "cat"))
    root = image_folder("val", classes=("ant", "bee", "dog"))
    for name in ("cow", "elk"):
        (root / "train" / name).mkdir()
    (root / "train" / "ant" / "7.png").write_bytes(b"")
    (root / "train" / "bee" / "8.jpg").write_bytes(b"text")
    (root / "val" / "bee" / "9.png").symlink_to("nowhere.png")
    parts = (
        "3 problems",
        "2 class folders with no pictures: train/cow, train/elk",
        "cat, cow, elk only in",
        "dog only in",
        "3 of 21 pictures cannot be read",
        "train/ant/7.png (empty), train/bee/8.jpg (not a picture), val/bee/9.png (not there)",
    )
    message = refusal(root)
    assert [part for part in parts if part not in message] == []


def test_sizes_do_not_hide_broken_pictures_and_empty_folders(image_folder, picture):
    root = image_folder()
    picture(0, (9, 9)).save(root / "ant" / "z.png")
    (root / "bee" / "a.png").write_bytes(b"x")
    (root / "void").mkdir()
    with pytest.raises(InputError, match=r"no pictures: void.*8x8 and 9x9.*bee/a\.png"):
        load_data(root)


def test_all_classes_of_one_picture_are_named(image_folder):
    root = image_folder(classes=("a", "b", "c", "d"), count=1)
    with pytest.raises(InputError, match=r"4 classes of .* cannot be split: a, b, c and 1 more"):
        load_data(root)


def test_a_class_whose_training_pictures_are_all_broken_is_not_skipped(image_folder):
    image_folder("train", count=2)
    root = image_folder("val")
    for path in (root / "train" / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"1 class of .* without a readable training picture: bee"):
        load_data(root, skip_broken=0.9)


def test_capital_train_and_test_are_not_taken_for_classes(image_folder):
    image_folder("Train")
    root = image_folder("Test")
    with pytest.raises(InputError, match=r"called like splits \(Test, Train\); call them 'train' and 'val'"):
        load_data(root)


def test_train_can_be_a_class(image_folder):
    root = image_folder(classes=("car", "plane", "train"))
    assert load_data(root).train.classes == ("car", "plane", "train")


def test_valid_is_a_validation_split(image_folder):
    image_folder("train", count=2)
    assert len(load_data(image_folder("valid", count=1)).val) == 2


def test_odd_names_lose_nothing(image_folder, picture):
    root = image_folder(classes=("Ant", "ant", "a\nb", "Ünï"), count=1)
    picture(1).save(root / "ant" / "0.PNG")
    for name in ("Ant", "a\nb", "Ünï"):
        picture(1).save(root / name / "new\nline.png")
    data = load_data(root)
    assert data.train.classes == ("Ant", "a\nb", "ant", "Ünï")
    assert len(data.train) + len(data.val) == 8
    (root / "ant" / "bro\nken.png").write_bytes(b"")
    assert r"ant/bro\nken.png" in refusal(root)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_names_that_are_no_text(image_folder):
    root = image_folder()
    (root / "ant" / "0.png").rename(root / "ant" / os.fsdecode(b"caf\xe9.png"))
    assert len(load_data(root).train) == 4
    (root / "ant").rename(root / os.fsdecode(b"caf\xe9"))
    with pytest.raises(InputError, match=r"no UTF-8 text: caf\\udce9"):
        load_data(root)
