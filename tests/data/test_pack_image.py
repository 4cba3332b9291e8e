"""One packed image: size, colour and orientation, and what cannot be read."""

import io

import numpy as np
import pytest
from PIL import Image

from stillroom.data.content_hash import hash_bytes
from stillroom.data.pack_image import PackSettings, pack_image
from tests.data.image_files import png


def opened(packed):
    return Image.open(io.BytesIO(packed.encoded))


@pytest.mark.parametrize(("size", "expected"), [((40, 20), (16, 8)), ((20, 50), (8, 20)), ((7, 30), (7, 30))])
def test_the_shorter_side_gets_the_size_and_none_is_enlarged(image, size, expected):
    assert opened(pack_image(png(image(1, size)), PackSettings(size=8))).size == expected


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA"])
def test_every_image_becomes_an_rgb_jpeg(image, mode):
    file = io.BytesIO()
    image(3, (16, 16), mode).save(file, "TIFF")
    found = opened(pack_image(file.getvalue(), PackSettings(size=8, quality=95)))
    assert (found.format, found.mode) == ("JPEG", "RGB")
    expected = np.asarray(image(3, (16, 16), mode).convert("RGB")).mean((0, 1))
    assert np.abs(np.asarray(found).mean((0, 1)) - expected).max() < 6


def test_orientation_is_applied_and_not_applied_again():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 20)).save(file, "JPEG", exif=exif)
    found = opened(pack_image(file.getvalue(), PackSettings(size=10)))
    assert found.size == (10, 20)
    assert not found.getexif()


def test_bytes_are_kept_and_hashed(image, tmp_path):
    data = png(image(1))
    (tmp_path / "one.png").write_bytes(data)
    for source in (data, tmp_path / "one.png"):
        assert pack_image(source, PackSettings(keep_bytes=True)) == (data, hash_bytes(data))
    assert pack_image(data, PackSettings()).content == hash_bytes(data)


@pytest.mark.parametrize("keep_bytes", [True, False])
def test_broken_images_are_found(image, keep_bytes, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for source in (png(noise)[:5000], b"text", b"", None, tmp_path / "none.png"):
        with pytest.raises(OSError, match=r"\w"):
            pack_image(source, PackSettings(keep_bytes=keep_bytes))
