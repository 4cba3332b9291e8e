import hashlib
from pathlib import Path

import pytest
import torch

from stillroom.data import glyphs100
from stillroom.data.glyph_drawing import Difficulty
from stillroom.data.glyphs import CHARACTERS, CLASSES, FONTS, HELD_OUT_FONTS, TRAIN_FONTS
from stillroom.errors import InputError


def digest(*sets):
    return hashlib.sha256(b"".join(images.images.numpy().tobytes() for images in sets)).hexdigest()


def test_hundred_distinct_classes():
    assert len(CLASSES) == len(set(CHARACTERS)) == 100
    assert "U+0416 Ж" in CLASSES


def test_test_split_has_fonts_of_its_own():
    assert not set(TRAIN_FONTS) & set(HELD_OUT_FONTS)
    assert set(FONTS) == set(TRAIN_FONTS) | set(HELD_OUT_FONTS)


def test_shapes_labels_and_balance():
    train, test = glyphs100(0, 3, 2)
    assert train.images.shape == (300, 3, 32, 32)
    assert train.images.dtype == torch.uint8
    assert torch.equal(torch.bincount(train.labels), torch.full((100,), 3))
    assert torch.equal(torch.bincount(test.labels), torch.full((100,), 2))


def test_same_seed_same_bytes_whatever_the_threads(tmp_path):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = glyphs100(5, 6, 1, cache=tmp_path / "one")
        torch.set_num_threads(3)
        three = glyphs100(5, 6, 1, cache=tmp_path / "three")
    finally:
        torch.set_num_threads(threads)
    assert digest(*one) == digest(*three)


def test_other_seeds_and_splits_differ(tmp_path):
    train, test = glyphs100(0, 1, 1, cache=tmp_path)
    assert digest(train) != digest(test)
    assert digest(train) != digest(glyphs100(1, 1, 1, cache=tmp_path)[0])


def test_smaller_set_is_the_beginning_of_a_bigger_one():
    small, big = glyphs100(0, 2, 1)[0], glyphs100(0, 6, 1)[0]
    assert torch.equal(small.images, big.images[:200])


def test_cache_is_used_and_damage_is_repaired(tmp_path, caplog):
    first = digest(*glyphs100(0, 1, 1, cache=tmp_path))
    (stored,) = tmp_path.iterdir()
    written = stored.stat().st_mtime_ns
    assert digest(*glyphs100(0, 1, 1, cache=tmp_path)) == first
    assert stored.stat().st_mtime_ns == written
    whole = stored.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2], whole[:5000] + b"\0\xff" * 50 + whole[5100:]):
        stored.write_bytes(damaged)
        assert digest(*glyphs100(0, 1, 1, cache=tmp_path)) == first
        assert stored.stat().st_size == len(whole)
    assert "damaged" in caplog.text


def test_difficulty_has_its_own_cache_entry(tmp_path):
    easy = Difficulty(noise=0.0, blur=0.0)
    assert digest(*glyphs100(0, 1, 1, cache=tmp_path)) != digest(*glyphs100(0, 1, 1, cache=tmp_path, difficulty=easy))
    assert len(list(tmp_path.iterdir())) == 2


def test_cache_that_cannot_be_written_is_only_a_warning(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    train, _ = glyphs100(0, 1, 1, cache=Path(blocked))
    assert len(train) == 100
    assert "not written" in caplog.text


@pytest.mark.parametrize("bad", [{"seed": -1}, {"train_per_class": 0}, {"test_per_class": 0}])
def test_arguments_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        glyphs100(**bad)
