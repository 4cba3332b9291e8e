import io
import os
import tracemalloc
from contextlib import suppress
from random import Random

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from stillroom.data import decoding
from stillroom.data.content_hash import hash_bytes
from stillroom.data.decoding import move_to_front, size_of_first
from tests.data.image_files import as_array, png


def decode_all(chunks, count, image_size, where):
    """As a listing decodes its images."""
    size = size_of_first(chunks) if image_size is None else (image_size, image_size)
    return decoding.decode_all(chunks, count, size, where, resize=image_size is not None)


def decode_image(source, image_size=None):
    """The pixels of one image."""
    return decoding.decode_image(source, image_size)[0]


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(size=(20, 14)):
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def test_jpeg_equals_pil():
    for options in ({}, {"progressive": True}, {"subsampling": 0, "quality": 95}):
        data = encoded(noise(), "JPEG", **options)
        np.testing.assert_array_equal(decode_image(data), as_array(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "RGB"])
def test_png_modes_become_rgb(mode, image):
    shown = image(3).convert(mode)
    np.testing.assert_array_equal(decode_image(png(shown)), as_array(shown))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_modes_become_rgb(mode, image):
    decoded = decode_image(encoded(image(3).convert(mode), "JPEG"))
    assert decoded.shape == (3, 8, 8)
    assert np.abs(decoded[:, 4, 4].astype(int) - as_array(image(3).convert(mode))[:, 4, 4]).max() < 12


def test_sixteen_bits_are_scaled():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    decoded = decode_image(png(Image.fromarray(values)))
    np.testing.assert_array_equal(decoded[1], np.round(values / 257).astype(np.uint8))
    assert decode_image(png(Image.fromarray(values // 300))).max() == 1  # dark stays dark


def test_floating_point_is_scaled():
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    decoded = decode_image(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(decoded[0], np.round(values * 255).astype(np.uint8))


def test_first_frame_of_an_animation(image):
    data = encoded(image(0), "GIF", save_all=True, append_images=[image(30)])
    expected = as_array(Image.open(io.BytesIO(encoded(image(0), "GIF"))))
    np.testing.assert_array_equal(decode_image(data), expected)


def test_resize_shorter_side_and_cut_the_centre():
    wide = Image.new("RGB", (90, 30), (255, 0, 0))
    wide.paste((0, 0, 255), (30, 0, 60, 30))
    decoded = decode_image(png(wide), 10)
    assert decoded.shape == (3, 10, 10)
    assert decoded[2, :, 1:-1].min() > 200  # only the blue middle is left
    assert decode_image(encoded(noise((400, 300)), "JPEG", quality=95), 16).shape == (3, 16, 16)


def broken_images():
    jpeg, image = encoded(noise((60, 60)), "JPEG"), png(noise((60, 60)))
    big = encoded(noise((400, 300)), "JPEG", quality=95)
    return {
        "none": None,
        "empty": b"",
        "text": b"not an image",
        "short jpeg": jpeg[: len(jpeg) // 2],
        "short big jpeg": big[: len(big) // 2],
        "short png": image[: len(image) // 2],
        "head only": jpeg[:30],
        "bad png": image[:60] + b"\0" * 60 + image[120:],
    }


@pytest.mark.parametrize("name", broken_images())
@pytest.mark.parametrize("size", [None, 16])
def test_broken_images_are_reported_not_raised(name, size):
    good = png(noise((60, 60)))
    result = decode_all([[good, broken_images()[name]], [good]], 3, size, "here")
    assert result.broken == (1,)
    assert result.places.tolist() == [0, 2]
    assert torch.equal(result.images[0], result.images[1])


def test_bomb_is_broken(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    result = decode_all([[png(noise((11, 11))), png(noise((10, 10)))]], 2, None, "here")
    assert result.broken == (0,)


def test_order_is_kept_over_many_groups(image):
    images = [image(number) for number in range(200)]
    sources = [png(image) for image in images]
    result = decode_all([sources[:150], sources[150:]], 200, None, "here")
    np.testing.assert_array_equal(result.images.numpy(), np.stack([as_array(image) for image in images]))


def test_two_sizes_need_a_size(image):
    sources = [png(image(0, (8, 6))), png(image(1, (9, 6)))]
    assert "here differ in size (8x6 and 9x6); give image_size" in decode_all([sources], 2, None, "here").problem
    assert decode_all([sources], 2, 4, "here").images.shape == (2, 3, 4, 4)


def test_images_are_decoded_from_files(tmp_path, image):
    image(5).save(tmp_path / "x.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "x.png"), as_array(image(5)))
    missing = decode_all([[tmp_path / "x.png", tmp_path / "y.png"]], 2, None, "here")
    assert missing.broken == (1,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"text", "not an image"),
        (encoded(noise(), "JPEG")[:200], "."),
        (encoded(Image.new("1", (20000, 20000)), "PNG"), "too many pixels"),
    ],
    ids=["none", "empty", "text", "short", "bomb"],
)
def test_the_reason_is_given_in_a_few_words(content, reason):
    with pytest.raises(OSError, match=reason) as caught:
        decode_image(content)
    assert len(str(caught.value)) <= 80


def test_a_bomb_is_refused_before_it_is_unpacked():
    bomb = encoded(Image.new("1", (20000, 20000)), "PNG")
    tracemalloc.start()
    with pytest.raises(OSError, match="too many pixels"):
        decode_image(bomb, 32)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def seeds():
    grey = Image.fromarray(np.arange(280, dtype=np.uint16).reshape(14, 20) * 200)
    numbers = Image.fromarray(np.linspace(0, 1, 280, dtype=np.float32).reshape(14, 20))
    return {
        "jpeg": encoded(noise(), "JPEG"),
        "png": png(noise()),
        "gif": encoded(noise(), "GIF"),
        "bmp": encoded(noise(), "BMP"),
        "tiff": encoded(noise(), "TIFF"),
        "tiff lzw": encoded(noise(), "TIFF", compression="tiff_lzw"),
        "tiff 16": encoded(grey, "TIFF"),
        "tiff float": encoded(numbers, "TIFF"),
        "webp": encoded(noise(), "WEBP"),
    }


def mutated(data, random):
    """Bits flipped, bytes put in, ends and middles cut out; mostly in the head, where the lies are."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(min(len(changed), random.choice((64, 4096))) or 1)
        kind = random.randrange(4)
        if kind == 0:
            del changed[at : at + random.randint(1, 20)]
        elif kind == 1:
            changed[at:at] = random.randbytes(random.randint(1, 8))
        elif at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")  # PIL remarks on odd metadata
@pytest.mark.parametrize("kind", seeds())
def test_damage_of_any_kind_gives_an_image_or_one_error(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # a lying head shall not cost seconds
    random, outcomes = Random(kind), set()
    for _ in range(300):
        size = random.choice((None, 16))
        try:
            decoded = decode_image(mutated(seeds_made[kind], random), size)
        except OSError:
            outcomes.add("refused")
            continue
        outcomes.add("decoded")
        assert decoded.dtype == np.uint8
        assert decoded.shape[0] == 3
        assert decoded.size > 0
        assert size is None or decoded.shape == (3, 16, 16)
    assert "refused" in outcomes


seeds_made = seeds()


def test_numbers_where_sizes_are_expected_are_refused_not_raised():
    """A TIFF that gives its width as a fraction once raised a TypeError through everything."""
    data = bytearray(encoded(noise(), "TIFF"))
    entry = data.index(bytes((0, 1)), 8)
    assert data[entry : entry + 2] == b"\x00\x01"
    data[entry + 2 : entry + 4] = (11).to_bytes(2, "little")  # float
    with pytest.raises(OSError, match=r"."):
        decode_image(bytes(data))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\n%%EOF\n"


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Ghostscript is a shell script")
def test_an_eps_called_png_starts_no_ghostscript(tmp_path, monkeypatch):
    marker, program = tmp_path / "was started", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch '{marker}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow remembers whether it found one
    (tmp_path / "x.png").write_bytes(EPS)
    for source in (tmp_path / "x.png", EPS):
        with pytest.raises(OSError, match="not an image"):
            decode_image(source)
        assert size_of_first([[source]]) is None
    assert not marker.exists()
    with Image.open(tmp_path / "x.png") as image, suppress(Exception):
        image.load()
    assert marker.exists()  # so the test above could have failed


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "SGI", "DDS", "ICNS", "JPEG2000", "SPIDER", "PDF"])
def test_other_readers_of_pillow_are_never_asked(kind):
    image = noise((32, 32)).convert("F") if kind == "SPIDER" else noise((32, 32))
    with pytest.raises(OSError, match="not an image"):
        decode_image(encoded(image, kind))


def test_a_camera_s_jpeg_with_two_images_gives_the_first(image):
    data = encoded(image(0), "MPO", save_all=True, append_images=[image(30)])
    np.testing.assert_array_equal(decode_image(data), as_array(Image.open(io.BytesIO(data))))


def test_an_image_has_the_hash_of_its_file_whatever_its_size(tmp_path, image):
    for number in range(3):
        image(number, (20, 14)).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.glob("*.png"))
    (tmp_path / "3.png").write_bytes(b"broken")
    held = [path.read_bytes() for path in paths]
    expected = [hash_bytes(content) for content in held]
    assert len(set(expected)) == 3
    for size in (None, 4, 12):
        assert decode_all([[*paths, tmp_path / "3.png"]], 4, size, "here").digests.tolist() == expected
        assert decode_all([held], 3, size, "here").digests.tolist() == expected


def test_rows_move_to_the_front_in_their_order():
    for seed in range(20):
        chosen = np.flatnonzero(np.random.default_rng(seed).random(300) < 0.1 * (seed % 10 + 1))
        rows = np.arange(300)[:, None].repeat(3, 1)
        move_to_front(rows, chosen)
        np.testing.assert_array_equal(rows[: len(chosen), 1], chosen)


def test_the_size_is_that_of_the_first_that_can_be_read(image):
    chunks = [[None, b"", b"text"], [png(image(0, (9, 7))), png(image(1))]]
    assert size_of_first(chunks) == (7, 9)
    assert size_of_first([[b"text"]]) is None


def test_images_do_not_pile_up_while_they_are_decoded():
    """A chunk of large images, decoded before the first is put in its place, once filled the memory."""
    sources = [png(Image.new("RGB", (8, 8)))] * 64
    tracemalloc.start()
    result = decode_all([sources], 64, 256, "here")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * result.images.numel()
