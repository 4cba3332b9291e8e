import pytest
from PIL import Image

from stillroom.data import image_sizes as module
from stillroom.data.image_folder import from_files
from stillroom.data.image_sizes import image_sizes
from stillroom.data.set_index import indexed


@pytest.fixture
def images(tmp_path):
    """An upright image, one that its metadata turn, and a broken one; with their index."""
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (20, 10)).save(folder / "a.jpg")
    Image.new("RGB", (20, 10), "red").save(folder / "b.jpg", exif=exif)
    (folder / "c.jpg").write_bytes(b"no image")
    names = ["a.jpg", "b.jpg", "c.jpg"]
    return folder, names, indexed(from_files(folder, folder, names, [0, 0, 0], ("",)), cache=tmp_path)


def test_sizes_are_those_of_upright_images(images, tmp_path):
    assert image_sizes(*images, cache=tmp_path).tolist() == [[10, 20], [20, 10], [0, 0]]


def test_headers_are_read_once(images, tmp_path, monkeypatch):
    first = image_sizes(*images, cache=tmp_path)

    def fail(source):
        raise AssertionError

    monkeypatch.setattr(module, "size_of_image", fail)
    assert image_sizes(*images, cache=tmp_path).tolist() == first.tolist()
    (kept,) = (tmp_path / "sizes").iterdir()
    kept.write_bytes(b"nonsense")
    with pytest.raises(AssertionError):
        image_sizes(*images, cache=tmp_path)
