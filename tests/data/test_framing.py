import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as tv

from stillroom.data import framing as module
from stillroom.data.augment import crop_boxes
from stillroom.data.decoding import decode_image, size_of_first
from stillroom.data.framing import Framing, crop_box, decode_framed
from stillroom.errors import InputError


def photo(size=(60, 44), mode="RGB"):
    coarse = np.random.default_rng(3).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return torch.from_numpy(np.array(upright)).permute(2, 0, 1)


def draws(count=3, seed=0):
    return np.random.default_rng(seed).random((count, 4))


@pytest.fixture
def pillow_only(monkeypatch):
    """As on a machine without simplejpeg."""
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    module._simplejpeg.cache_clear()
    yield
    module._simplejpeg.cache_clear()


JPEGS = {
    "4:2:0": encoded(photo(), subsampling=2),
    "4:2:2": encoded(photo(), subsampling=1),
    "4:4:4": encoded(photo(), subsampling=0, quality=95),
    "odd": encoded(photo((61, 43)), subsampling=2),
    "tiny": encoded(photo((1, 3))),
    "grey": encoded(photo(mode="L")),
    "rgb": encoded(photo(), keep_rgb=True),
    "cmyk": encoded(photo(mode="CMYK")),
    "progressive": encoded(photo(), progressive=True),
    "restarts": encoded(photo(), restart_marker_blocks=2),
}


@pytest.mark.parametrize("name", JPEGS)
def test_both_decoders_give_the_same_pixels(name):
    pixels = module._decode(JPEGS[name], None)
    assert torch.equal(torch.from_numpy(pixels).permute(2, 0, 1), by_pillow(JPEGS[name]))


def test_simplejpeg_decodes_what_it_can():
    decoded = {name: module._decode_upright_jpeg(data, None) is not None for name, data in JPEGS.items()}
    assert decoded == {name: name != "cmyk" for name in JPEGS}


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("framing", [Framing(16, 0.3), Framing(16, crop_fraction=0.8), Framing(8, 0.5, 1, True)])
def test_views_without_simplejpeg_are_the_same(name, framing, request):
    made = decode_framed(JPEGS[name], framing, draws())
    request.getfixturevalue("pillow_only")
    assert module._simplejpeg() is None
    assert torch.equal(decode_framed(JPEGS[name], framing, draws()), made)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(60, 44), (44, 60), (300, 20)])
def test_random_crops_equal_torchvision(kind, size):
    data = encoded(photo(size), kind)
    made = decode_framed(data, Framing(24, 0.2), draws(5))
    assert made.shape == (5, 3, 24, 24)
    assert made.dtype == torch.uint8
    image = by_pillow(data)
    boxes = crop_boxes(0.2, draws(5).T, (size[1], size[0])).astype(int)
    assert len({tuple(box) for box in boxes.tolist()}) == 5
    for view, (top, left, height, width) in zip(made, boxes.tolist(), strict=True):
        assert torch.equal(view, tv.resized_crop(image, top, left, height, width, [24, 24], antialias=True))


def test_crop_of_one_image_equals_the_crops_of_many():
    for number, size in enumerate([(375, 500), (500, 333), (32, 32), (1000, 20), (1, 7)]):
        table = draws(500, number)
        expected = crop_boxes(0.08, table.T, size).astype(int).tolist()
        assert [list(crop_box(0.08, row, *size)) for row in table.tolist()] == expected


def test_random_crop_without_a_size_keeps_the_image_s_size():
    assert decode_framed(JPEGS["odd"], Framing(None, 0.3), draws(2)).shape == (2, 3, 43, 61)


@pytest.mark.parametrize("size", [(60, 44), (44, 60), (61, 43), (20, 90)])
def test_central_crop_equals_torchvision(size):
    data = encoded(photo(size))
    made = decode_framed(data, Framing(28, crop_fraction=0.875))
    expected = tv.center_crop(tv.resize(by_pillow(data), [32], antialias=True), [28])
    assert torch.equal(made[0], expected)


@pytest.mark.parametrize("size", [None, 20])
@pytest.mark.parametrize("data", [JPEGS["odd"], encoded(photo(), "PNG")], ids=["jpeg", "png"])
def test_without_crops_pixels_are_those_of_decode_image(data, size):
    expected = torch.from_numpy(decode_image(data, size)[0].copy())[None]
    assert torch.equal(decode_framed(data, Framing(size)), expected)
    assert torch.equal(decode_framed(data, Framing(size), draws(2)), expected.expand(2, -1, -1, -1))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("framing", [Framing(16, 0.3), Framing(16, crop_fraction=0.8), Framing(16)])
def test_views_are_written_where_they_belong(layout, framing):
    batch = torch.zeros(4, 3, 16, 16, dtype=torch.uint8).to(memory_format=layout)
    made = decode_framed(JPEGS["4:2:0"], framing, draws(2), batch[1:3])
    assert made.data_ptr() == batch[1:3].data_ptr()
    assert torch.equal(batch[1:3], decode_framed(JPEGS["4:2:0"], framing, draws(2)))
    assert batch[1:3].any()
    assert not batch[::3].any()


def test_output_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"give \(1, 3, 44, 60\)"):
        decode_framed(JPEGS["4:2:0"], Framing(None), None, torch.empty(1, 3, 43, 60, dtype=torch.uint8))


def test_views_stay_when_the_next_image_is_decoded():
    first = decode_framed(JPEGS["4:4:4"], Framing(44, 0.9), draws(1))
    before = first.clone()
    decode_framed(encoded(Image.new("RGB", (60, 44))), Framing(44, 0.9), draws(1))
    assert torch.equal(first, before)


def test_scaled_decoding_keeps_at_least_the_output_s_pixels(monkeypatch):
    data = encoded(photo((400, 300)), quality=95)
    sizes = []
    resize = module._resize
    monkeypatch.setattr(module, "_resize", lambda pixels, out: (sizes.append(pixels.shape[:2]), resize(pixels, out)))
    whole = decode_framed(data, Framing(30, 0.5), draws(4))
    full, sizes = sizes, []
    scaled = decode_framed(data, Framing(30, 0.5, scaled_decoding=True), draws(4))
    assert all(min(size) >= 30 for size in sizes)
    assert all(size[0] <= large[0] / 4 + 1 for size, large in zip(sizes, full, strict=True))
    assert not torch.equal(whole, scaled)
    other = decode_framed(data, Framing(30, 0.5), draws(4, seed=1))
    off, unlike = ((whole.float() - views.float()).abs().mean() for views in (scaled, other))
    assert off < unlike / 4  # the same crops
    sizes = []
    central = decode_framed(data, Framing(30, crop_fraction=0.8, scaled_decoding=True))
    assert sizes == [(75, 100)]  # at an eighth, 38 pixels would not be left
    plain = decode_framed(data, Framing(30, crop_fraction=0.8))
    assert (central.float() - plain.float()).abs().mean() < 4


def tagged(orientation, kind):
    """An image that is upright once its orientation is applied."""
    image = photo((24, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation, kind):
    data = tagged(orientation, kind)
    with Image.open(io.BytesIO(encoded(photo((24, 16)), kind, **({"lossless": True} if kind == "WEBP" else {})))) as im:
        stored = torch.from_numpy(np.array(im.convert("RGB"))).permute(2, 0, 1)
    expected = {
        1: stored,
        2: stored.flip(2),
        3: stored.rot90(2, (1, 2)),
        4: stored.flip(1),
        5: stored.transpose(1, 2),
        6: stored.rot90(-1, (1, 2)),
        7: stored.rot90(2, (1, 2)).transpose(1, 2),
        8: stored.rot90(1, (1, 2)),
    }[orientation]
    assert torch.equal(torch.from_numpy(decode_image(data)[0].copy()), expected)
    assert torch.equal(decode_framed(data, Framing(None))[0], expected)
    assert size_of_first([[data]]) == tuple(expected.shape[1:])
    box = crop_boxes(0.3, draws(1).T, tuple(expected.shape[1:])).astype(int)[0].tolist()
    view = decode_framed(data, Framing(12, 0.3), draws(1))[0]
    assert torch.equal(view, tv.resized_crop(expected, *box, [12, 12], antialias=True))


def test_damaged_metadata_leave_the_image_as_it_is():
    data = tagged(6, "JPEG")
    at = data.index(b"Exif") + 6
    damaged = data[:at] + b"\0" * 20 + data[at + 20 :]
    assert decode_image(damaged)[0].shape == (3, 16, 24)
    assert decode_framed(damaged, Framing(None)).shape == (1, 3, 16, 24)
    assert decode_framed(damaged, Framing(8, 0.5), draws(1)).shape == (1, 3, 8, 8)


BROKEN = {
    "none": (None, "empty"),
    "empty": (b"", "empty"),
    "text": (b"text", "not an image"),
    "head": (JPEGS["odd"][:30], "."),
    "cut": (JPEGS["odd"][:-200], "truncated"),
    "bomb": (encoded(Image.new("1", (20000, 20000)), "PNG"), "too many pixels"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("framing", [Framing(16, 0.3), Framing(16, crop_fraction=0.8), Framing(16)])
def test_broken_images_are_refused_in_a_few_words(name, framing):
    data, reason = BROKEN[name]
    with pytest.raises(OSError, match=reason) as caught:
        decode_framed(data, framing, draws(1))
    assert len(str(caught.value)) <= 80


def test_a_jpeg_bomb_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(OSError, match="too many pixels"):
        decode_framed(JPEGS["odd"], Framing(16, 0.3), draws(1))


def test_pillow_decides_about_files_that_strict_decoding_refuses():
    data = bytearray(JPEGS["restarts"])
    data[data.index(b"\xff\xd1") + 1] = 0xD4  # a restart marker out of order
    assert module._decode_upright_jpeg(bytes(data), None) is None
    assert torch.equal(torch.from_numpy(module._decode(bytes(data), None)).permute(2, 0, 1), by_pillow(bytes(data)))


def test_files_are_read(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(JPEGS["odd"])
    framing = Framing(16, 0.3)
    assert torch.equal(decode_framed(path, framing, draws()), decode_framed(JPEGS["odd"], framing, draws()))
    with pytest.raises(OSError, match="missing"):
        decode_framed(tmp_path / "y.jpg", framing, draws())
    with pytest.raises(OSError, match="a folder"):
        decode_framed(tmp_path, framing, draws())


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"min_scale": 0.0}, "min_scale is 0"),
        ({"crop_fraction": 1.5}, "crop_fraction is 1.5"),
        ({"crop_fraction": 0.8, "size": None}, "crop_fraction is 0.8 without image_size"),
        ({"scaled_decoding": True, "size": None}, "scaled_decoding is True without image_size"),
    ],
)
def test_arguments_are_named(bad, name):
    with pytest.raises(InputError, match=name):
        Framing(**{"size": 16, **bad})
