import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from stillroom.data import set_index
from stillroom.data.content_hash import hash_bytes
from stillroom.data.image_folder import list_image_folder
from stillroom.data.set_index import indexed, why_unreadable


@pytest.fixture
def index(image_folder, tmp_path, monkeypatch):
    """Indexes a folder and tells which files were read."""
    root = image_folder("set", count=4) / "set"
    read = []
    original = set_index.read_file

    def reading(path):
        read.append(path.relative_to(root).as_posix())
        return original(path)

    monkeypatch.setattr(set_index, "read_file", reading)

    def run():
        read.clear()
        return indexed(list_image_folder(root)[0], cache=tmp_path / "cache"), sorted(read)

    run.root = root
    return run


def encoded(size=(40, 30), form="JPEG", **options):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, form, **options)
    return stream.getvalue()


def test_the_first_start_reads_every_file_once_and_the_second_none(index):
    first, read = index()
    assert len(read) == 8
    assert first.digests.tolist() == [hash_bytes((index.root / name).read_bytes()) for name in read]
    assert first.labels.tolist() == [0] * 4 + [1] * 4
    second, read = index()
    assert read == []
    assert np.array_equal(second.digests, first.digests)


def test_only_files_that_are_new_or_changed_are_read_again(index, image):
    before, _ = index()
    image(60).save(index.root / "ant" / "new.png")
    image(61).save(index.root / "bee" / "aside.png")
    (index.root / "bee" / "aside.png").replace(index.root / "bee" / "2.png")  # the name stays, the folder changes
    (index.root / "ant" / "0.png").unlink()
    after, read = index()
    assert read == ["ant/new.png", "bee/2.png"]
    assert after.digests[:3].tolist() == before.digests[1:4].tolist()
    assert after.digests[6] == hash_bytes((index.root / "bee" / "2.png").read_bytes())


def test_unreadable_images_are_told_with_their_reasons_and_a_repaired_one_is_noticed(index, image):
    root = index.root
    (root / "ant" / "0.png").write_bytes(b"")
    (root / "ant" / "1.png").write_bytes(b"text")
    (root / "ant" / "2.png").write_bytes((root / "ant" / "2.png").read_bytes()[:-40])
    os.mkfifo(root / "bee" / "9.png")
    (root / "bee" / "91.png").symlink_to("gone.png")
    found, _ = index()
    assert found.broken == (0, 1, 2, 8, 9)
    assert found.reasons[:2] == ("empty", "not an image")
    assert found.reasons[3:] == ("a pipe, socket or device", "missing")
    assert (found.digests[[0, 1, 2, 8, 9]] == 0).all()
    (root / "ant" / "0.png").write_bytes((root / "bee" / "0.png").read_bytes())  # in place: the folder is unchanged
    found, read = index()
    assert found.broken == (1, 2, 8, 9)
    assert "bee/0.png" not in read
    assert index()[0].broken == (1, 2, 8, 9)


def test_a_damaged_cache_is_made_again(index, tmp_path):
    first, _ = index()
    (file,) = (tmp_path / "cache" / "indexes").iterdir()
    file.write_bytes(file.read_bytes()[:300])
    again, read = index()
    assert len(read) == 8
    assert np.array_equal(again.digests, first.digests)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded(), ""),
        (encoded() + b"camera's own data", ""),
        (encoded()[:-60], "truncated"),
        (encoded(form="PNG"), ""),
        (encoded(form="PNG")[:-60], "truncated"),
        (encoded(form="WEBP")[:-60], "decoder|truncated"),
        (encoded(form="TIFF")[:-60], "truncated|buffer"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_files_that_were_cut_short_are_found_without_decoding_the_others(content, words):
    reason = why_unreadable(content)
    assert re.search(words, reason) if words else reason == ""


def test_an_image_of_billions_of_pixels_is_never_decoded():
    header = b"P6 60000 60000 255\n"
    assert why_unreadable(header + b"0" * 100) == "too many pixels"
