import os
import sys

import pytest

from stillroom.data import load_data
from stillroom.data.image_folder import list_image_folder
from stillroom.errors import InputError
from tests.data.image_files import refusal


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


def test_other_files_are_left_alone_and_deeper_ones_found(image_folder, image):
    root = image_folder()
    (root / "ant" / "Thumbs.db").write_text("")
    (root / ".git").mkdir()
    (root / "bee" / "more").mkdir()
    image(1).save(root / "bee" / "more" / "9.JPG")
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


def test_no_class_folders(tmp_path, image):
    image(0).save(tmp_path / "0.png")
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
        "2 class folders with no images: train/cow, train/elk",
        "cat, cow, elk only in",
        "dog only in",
        "3 of 21 images cannot be read",
        "train/ant/7.png (empty), train/bee/8.jpg (not an image), val/bee/9.png (missing)",
    )
    message = refusal(root)
    assert [part for part in parts if part not in message] == []


def test_sizes_do_not_hide_broken_images_and_empty_folders(image_folder, image):
    root = image_folder()
    image(0, (9, 9)).save(root / "ant" / "z.png")
    (root / "bee" / "a.png").write_bytes(b"x")
    (root / "void").mkdir()
    with pytest.raises(InputError, match=r"no images: void.*8x8 and 9x9.*bee/a\.png"):
        load_data(root)


def test_all_classes_of_one_image_are_named(image_folder):
    root = image_folder(classes=("a", "b", "c", "d"), count=1)
    with pytest.raises(InputError, match=r"4 classes of .* cannot be split: a, b, c and 1 more"):
        load_data(root)


def test_a_class_whose_training_images_are_all_broken_is_not_skipped(image_folder):
    image_folder("train", count=2)
    root = image_folder("val")
    for path in (root / "train" / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"1 class of .* without a readable training image: bee"):
        load_data(root, skip_broken=0.9)


def test_capital_train_and_test_are_not_taken_for_classes(image_folder):
    image_folder("Train")
    root = image_folder("Test")
    with pytest.raises(InputError, match=r"named like splits \(Test, Train\); name them 'train' and 'val'"):
        load_data(root)


def test_train_can_be_a_class(image_folder):
    root = image_folder(classes=("car", "plane", "train"))
    assert load_data(root).train.classes == ("car", "plane", "train")


def test_valid_is_a_validation_split(image_folder):
    image_folder("train", count=2)
    assert len(load_data(image_folder("valid", count=1)).val) == 2


def test_odd_names_lose_nothing(image_folder, image):
    root = image_folder(classes=("Ant", "ant", "a\nb", "Ünï"), count=1)
    image(1).save(root / "ant" / "0.PNG")
    for name in ("Ant", "a\nb", "Ünï"):
        image(1).save(root / name / "new\nline.png")
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
    with pytest.raises(InputError, match=r"not UTF-8 text: caf\\udce9"):
        load_data(root)


@pytest.fixture
def alphabets(image_folder):
    """Two alphabets of three and two characters, with three images each."""
    image_folder("greek", classes=("alpha", "beta", "gamma"))
    return image_folder("latin", classes=("alpha", "b"))


def test_folders_inside_class_folders_are_said_and_can_be_the_classes(alphabets):
    data = load_data(alphabets)
    assert data.train.classes == ("greek", "latin")
    (note,) = data.notes
    assert note.startswith("2 of the 2 class folders of ")
    assert "have 5 folders with images inside (greek/alpha, greek/beta, greek/gamma and 2 more)" in note
    assert "class_depth=2 makes the inner folders the classes" in note
    data = load_data(alphabets, class_depth=2)
    assert data.notes == ()
    assert data.train.classes == ("greek/alpha", "greek/beta", "greek/gamma", "latin/alpha", "latin/b")
    assert len(data.train) + len(data.val) == 15
    with pytest.raises(InputError, match="has none for class folders 3 levels below it"):
        load_data(alphabets, class_depth=3)


def test_splits_have_classes_at_a_depth_too(image_folder):
    image_folder("train/one", classes=("ant", "bee"))
    root = image_folder("val/one", classes=("ant", "bee"), count=1)
    data = load_data(root, class_depth=2)
    assert data.val.labels.tolist() == [0, 1]
    assert data.train.classes == ("one/ant", "one/bee")


def test_a_single_folder_of_images_inside_a_class_folder_is_no_class(image_folder, image):
    """Tiny-ImageNet keeps its images so, and some keep a few more in a folder beside the others."""
    image_folder("ant", classes=("images",))
    root = image_folder("bee", classes=("images",))
    assert load_data(root).notes == ()
    (root / "bee" / "extra").mkdir()
    for name in ("extra/1.png", "2.png"):
        image(200).save(root / "bee" / name)
    assert load_data(root).notes == ()


def test_images_outside_of_class_folders_are_counted(image_folder, image):
    root = image_folder()
    for number in range(4):
        image(number).save(root / f"{number}.png")
    assert load_data(root).notes == (
        f"4 images of {root} outside of class folders left out: 0.png, 1.png, 2.png and 1 more",
    )


def test_images_without_class_folders_are_counted_and_the_way_out_is_said(tmp_path, image):
    for number in range(12):
        image(number).save(tmp_path / f"{number}.png")
    message = rf"{tmp_path} holds 12 images and has none for class folders; put the images of each class into a folder"
    with pytest.raises(InputError, match=message):
        load_data(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match=r"holds 12 images and has only 'images' .* if its folders are the classes"):
        load_data(tmp_path)


@pytest.mark.parametrize(("name", "depth"), [("glyphs100", 2), (".", 0)])
def test_a_depth_where_there_is_none_is_refused(name, depth):
    with pytest.raises(InputError, match=f"class_depth is {depth}; give 1 or more"):
        load_data(name, class_depth=depth)


@pytest.fixture
def loose(tmp_path, image):
    """Writes images that are in no class folder."""

    def make(where, count=4):
        folder = tmp_path / where
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image(100 + len(where) * 10 + index).save(folder / f"{index}.png")
        return tmp_path

    return make


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled"])
def test_a_folder_of_unlabelled_images_beside_the_class_folders(image_folder, loose, name):
    image_folder(count=8)
    data = load_data(loose(f"{name}/2026", 30), val_fraction=0.4)
    assert data.train.classes == ("ant", "bee")
    assert data.train.unlabelled == 30
    assert data.val.unlabelled == 0
    assert len(data.train) + len(data.val) == 46
    assert f"30 images of {name}/: training images without a label" in data.notes


@pytest.mark.parametrize("where", ["train/unlabelled", "unlabelled"])
def test_unlabelled_images_of_splits(image_folder, loose, where):
    image_folder("train")
    image_folder("val")
    root = loose(where, 5)
    train, val = list_image_folder(root)
    assert sorted(train.labels.tolist()) == [-1] * 5 + [0] * 3 + [1] * 3
    assert val.classes == train.classes == ("ant", "bee")
    assert load_data(root).train.unlabelled == 5


def test_unlabelled_validation_images_beside_labelled_ones_are_left_out(image_folder, loose):
    image_folder("train")
    image_folder("val")
    data = load_data(loose("val/unlabelled", 2))
    assert len(data.val) == 6
    assert data.notes == ("2 images of val/unlabelled/: left out, because validation images need a label",)


@pytest.mark.parametrize("where", ["train", "train/unlabelled"])
def test_train_without_class_folders_beside_val_with_them_has_no_labels(image_folder, loose, where):
    image_folder("val")
    data = load_data(loose(where, 7))
    assert data.train.classes == ("ant", "bee")
    assert (len(data.train), data.train.unlabelled, len(data.val), data.val.unlabelled) == (7, 7, 6, 0)
    assert "train has no class folders: its images are training images without labels" in data.notes[0]


def test_images_without_class_folders_are_refused_with_the_way_to_use_them(loose):
    with pytest.raises(InputError, match=r"has none for class folders; .* give labels=none"):
        load_data(loose(""))
