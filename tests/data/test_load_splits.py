import pytest

from stillroom.data import load_data
from stillroom.errors import InputError
from tests.data.image_files import png


def test_broken_images_stop_or_are_skipped(image_folder):
    image_folder("train", count=5)
    root = image_folder("val", count=5)
    (root / "train" / "ant" / "1.png").write_bytes(b"broken")
    (root / "val" / "bee" / "0.png").write_bytes(b"")
    with pytest.raises(
        InputError,
        match=r"2 of 20 images .*: train/ant/1\.png \(not an image\), val/bee/0\.png \(empty\); .*skip_broken",
    ):
        load_data(root)
    data = load_data(root, skip_broken=0.1)
    assert data.broken == ("train/ant/1.png", "val/bee/0.png")
    assert data.train.ids.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert len(data.val) == 9


def test_broken_rows_are_named(tmp_path, parquet_file, image):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1], encoded=[png(image(0)), None, b"x", png(image(1))])
    parquet_file(tmp_path / "val.parquet", [0, 1])
    with pytest.raises(
        InputError, match=r"2 of 6 .*train\.parquet row 1 \(empty\), train\.parquet row 2 \(not an image\)"
    ):
        load_data(tmp_path)
    assert load_data(tmp_path, skip_broken=0.4).train.ids.tolist() == [0, 3]


def test_nothing_readable(image_folder):
    image_folder("train", count=1)
    root = image_folder("val", count=1)
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"validation split .* no readable images"):
        load_data(root, skip_broken=1.0)


def test_sizes(image_folder):
    image_folder("train", size=(8, 8))
    root = image_folder("val", size=(12, 8))
    with pytest.raises(InputError, match=r"training and validation images differ \(8x8 and 12x8\)"):
        load_data(root)
    data = load_data(root, image_size=6)
    assert data.train.images.shape[2:] == data.val.images.shape[2:] == (6, 6)
