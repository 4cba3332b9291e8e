import pytest

from stillroom.data.folder import is_tiny_imagenet, list_image_folder, list_tiny_imagenet
from stillroom.errors import InputError


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
        list_image_folder(root)


def test_empty_class_is_named(image_folder):
    root = image_folder()
    (root / "cow").mkdir()
    with pytest.raises(InputError, match=r"cow has no pictures"):
        list_image_folder(root)


def test_no_class_folders(tmp_path, picture):
    picture(0).save(tmp_path / "0.png")
    with pytest.raises(InputError, match="has none for class folders"):
        list_image_folder(tmp_path)
    (tmp_path / "ant").mkdir()
    with pytest.raises(InputError, match="only 'ant' for class folders"):
        list_image_folder(tmp_path)


@pytest.fixture
def tiny_imagenet(tmp_path, picture):
    """Two classes in Stanford's layout; wnids.txt is not sorted."""
    for number, wnid in enumerate(("n02", "n01")):
        folder = tmp_path / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for index in range(3):
            picture(number * 3 + index).save(folder / f"{wnid}_{index}.JPEG")
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tfire salamander\nn03\tother\n")
    (tmp_path / "val" / "images").mkdir(parents=True)
    for index in range(2):
        picture(50 + index).save(tmp_path / "val" / "images" / f"val_{index}.JPEG")
    table = "val_0.JPEG\tn02\t0\t0\t1\t1\nval_1.JPEG\tn01\t0\t0\t1\t1\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(table)
    return tmp_path


def test_tiny_imagenet_layout(tiny_imagenet):
    assert is_tiny_imagenet(tiny_imagenet)
    train, val = list_tiny_imagenet(tiny_imagenet)
    assert train.classes == val.classes == ("n01 goldfish", "n02 fire salamander")
    assert train.names[0] == "train/n01/images/n01_0.JPEG"
    assert val.labels.tolist() == [1, 0]
    assert len(val.decode(None).images) == 2


def test_tiny_imagenet_without_words(tiny_imagenet):
    (tiny_imagenet / "words.txt").unlink()
    assert list_tiny_imagenet(tiny_imagenet)[0].classes == ("n01", "n02")


def test_tiny_imagenet_that_is_not_whole(tiny_imagenet):
    table = tiny_imagenet / "val" / "val_annotations.txt"
    table.write_text(table.read_text() + "val_2.JPEG\tn09\n")
    with pytest.raises(InputError, match="line 3 has no known class"):
        list_tiny_imagenet(tiny_imagenet)
    (tiny_imagenet / "wnids.txt").write_text("n01\nn05\n")
    with pytest.raises(InputError, match=r"differ in n02, n05"):
        list_tiny_imagenet(tiny_imagenet)
