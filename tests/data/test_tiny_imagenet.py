import os

import pytest

from stillroom.data import load_data
from stillroom.data.tiny_imagenet import is_tiny_imagenet, list_tiny_imagenet
from stillroom.errors import InputError
from tests.data.image_files import refusal


@pytest.fixture
def tiny_imagenet(tmp_path, image):
    """Two classes in Stanford's layout; wnids.txt is not sorted."""
    for number, wnid in enumerate(("n02", "n01")):
        folder = tmp_path / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for index in range(3):
            image(number * 3 + index).save(folder / f"{wnid}_{index}.JPEG")
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tfire salamander\nn03\tother\n")
    (tmp_path / "val" / "images").mkdir(parents=True)
    for index in range(2):
        image(50 + index).save(tmp_path / "val" / "images" / f"val_{index}.JPEG")
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


def test_everything_wrong_with_the_tables_is_told_at_once(tiny_imagenet):
    table = tiny_imagenet / "val" / "val_annotations.txt"
    table.write_text(table.read_text() + "val_2.JPEG\tn09\n\n/etc/x.JPEG\tn01\nval_0.JPEG\tn01\nval_9.JPEG\tn01\n")
    (tiny_imagenet / "wnids.txt").write_text("n01\nn05\nn02")
    message = refusal(tiny_imagenet)
    assert "differ in n05" in message
    assert "3 lines of" in message
    assert "(line 3, 4, 5)" in message
    assert "twice: val_0.JPEG" in message
    assert "val/images/val_9.JPEG (missing)" in message


def test_images_without_a_line_are_not_lost(tiny_imagenet, image):
    image(3).save(tiny_imagenet / "val" / "images" / "more.JPEG")
    with pytest.raises(InputError, match=r"1 image of .* without a line in val_annotations\.txt: more\.JPEG"):
        load_data(tiny_imagenet)


@pytest.mark.parametrize("name", ["wnids.txt", "val/val_annotations.txt", "words.txt"])
def test_tables_that_are_no_text(tiny_imagenet, name):
    (tiny_imagenet / name).write_bytes(b"n\xe91\tx")
    with pytest.raises(InputError, match=f"{name} cannot be read"):
        load_data(tiny_imagenet)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_named_in_the_table_does_not_block(tiny_imagenet):
    (tiny_imagenet / "val" / "images" / "val_0.JPEG").unlink()
    os.mkfifo(tiny_imagenet / "val" / "images" / "val_0.JPEG")
    with pytest.raises(InputError, match=r"val_0\.JPEG \(a pipe"):
        load_data(tiny_imagenet)
