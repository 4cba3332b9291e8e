"""Checking a packed set finds every kind of damage and names the shard."""

import pytest

from stillroom.data.pack import pack
from stillroom.data.pack_check import check_pack
from stillroom.data.pack_image import PackSettings
from stillroom.errors import InputError

NAME = "train-00000-of-00001.arrow"


@pytest.fixture
def packed(tmp_path, image_folder):
    pack(image_folder("set") / "set", tmp_path / "packed", PackSettings(size=8), jobs=1)
    return tmp_path / "packed"


def test_a_complete_one_has_no_problems(packed):
    seen = []
    manifest, problems = check_pack(packed, jobs=2, report=seen.append)
    assert problems == []
    assert seen == [NAME]
    assert manifest.splits["train"].images == 6


def test_damage_is_named(packed):
    path = packed / NAME
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for content, words in ((bytes(changed), "SHA-256"), (whole[:-1], "bytes and not"), (None, "missing")):
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        (problem,) = check_pack(packed)[1]
        assert NAME in problem
        assert words in problem


def test_a_shard_that_the_manifest_does_not_name_is_found(packed):
    (packed / "train-00001-of-00001.arrow").write_bytes(b"")
    assert check_pack(packed)[1] == ["train-00001-of-00001.arrow not in the manifest"]


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        check_pack(tmp_path)
