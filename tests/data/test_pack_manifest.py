"""The manifest of a packed set: read as it was written, and refused when damaged."""

import json
from dataclasses import replace

import pytest

from stillroom.data.pack_manifest import (
    MANIFEST,
    PackManifest,
    ShardRecord,
    SplitRecord,
    check_rows,
    read_manifest,
    require_manifest,
)
from stillroom.errors import InputError


@pytest.fixture
def manifest():
    shards = [ShardRecord(f"train-{number:05}-of-00002.arrow", 3, 100, "ab") for number in range(2)]
    return PackManifest("set", {"size": 8}, ["ant", "bee"], {"train": SplitRecord(6, [3, 3], 0, [])}, shards)


def test_it_is_read_as_it_was_written(tmp_path, manifest):
    assert read_manifest(tmp_path) is None
    manifest.write(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert json.loads((tmp_path / MANIFEST).read_text())["digest"] == manifest.digest


def test_the_digest_changes_with_shards_and_classes(manifest):
    others = [replace(manifest, classes=["ant", "cat"]), replace(manifest, shards=manifest.shards[:1])]
    assert len({one.digest for one in (manifest, *others)}) == 3
    assert replace(manifest, source="elsewhere").digest == manifest.digest


@pytest.mark.parametrize("damage", ['"sha256": "ab"', '"format"', '"rows"', "{"])
def test_a_damaged_one_is_refused(tmp_path, manifest, damage):
    manifest.write(tmp_path)
    path = tmp_path / MANIFEST
    path.write_text(path.read_text().replace(damage, '"else": "cd"', 1))
    with pytest.raises(InputError, match=r"manifest\.json is "):
        read_manifest(tmp_path)


def test_a_missing_one_is_refused_where_it_is_needed(tmp_path):
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        require_manifest(tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [({0: 3}, "1 shard of .* missing: train-00001"), ({0: 3, 1: 3, 2: 1}, "does not name: train-00002"),
     ({0: 3, 1: 2}, "train-00001-of-00002.arrow has 2 rows and .* says 3")],
)  # fmt: skip
def test_shards_that_differ_are_named(tmp_path, manifest, rows, words):
    found = {f"train-{number:05}-of-00002.arrow": count for number, count in rows.items()}
    with pytest.raises(InputError, match=words):
        check_rows(tmp_path, manifest, found)
