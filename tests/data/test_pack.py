"""Packing: what is written, that it loads, that a killed pack continues to the same bytes, and what is refused."""

import json
import multiprocessing
import os
import random
import shutil
import time
from collections import namedtuple

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stillroom.data import load_data
from stillroom.data.content_hash import hash_bytes
from stillroom.data.pack import pack
from stillroom.data.pack_image import PackSettings
from stillroom.data.process_pool import WorkerDiedError
from stillroom.errors import InputError, InUse
from tests.data.boxed_folders import write_coco

SMALL = PackSettings(size=8, shard_mb=1)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """360 training images and 6 validation images of 3 classes."""
    folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 120), ("val", 2)):
        for label in range(3):
            own = folder / split / f"n{label:08}"
            own.mkdir(parents=True)
            for index in range(count):
                pixels = draw.integers(256, size=(16, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(own / f"{own.name}_{index}.JPEG")
    return folder


@pytest.fixture
def photos(tmp_path, written):
    return shutil.copytree(written, tmp_path / "set")


@pytest.fixture
def many_shards(monkeypatch):
    """Shards of 64 images."""
    monkeypatch.setattr("stillroom.data.pack.np.mean", lambda sizes: 1e6)


def shards_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.arrow"))}


def rows_of(path):
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all()


def test_a_packed_set_loads_with_its_classes_labels_and_original_content(tmp_path, photos):
    manifest = pack(photos, tmp_path / "packed", SMALL, jobs=2)
    packed, plain = load_data(tmp_path / "packed"), load_data(photos)
    for ours, theirs in ((packed.train, plain.train), (packed.val, plain.val)):
        assert ours.classes == theirs.classes
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert ours.content().tolist() == theirs.content().tolist()
    assert tuple(packed.train.images.shape[1:]) == (3, 8, 12)
    assert packed.train.fingerprint != plain.train.fingerprint
    assert manifest.splits["train"].per_class == [120] * 3
    assert manifest.splits["val"].images == 6


def test_rows_are_in_the_layout_of_hugging_face(tmp_path, photos):
    pack(photos, tmp_path / "packed", SMALL, jobs=1)
    table = rows_of(tmp_path / "packed" / "train-00000-of-00001.arrow")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["n00000000", "n00000001", "n00000002"], "_type": "ClassLabel"}
    assert features["image"] == {"_type": "Image"}
    row = table.slice(121, 1).to_pylist()[0]
    original = photos / row["image"]["path"]
    assert row["label"] == 1
    assert row["content"] == hash_bytes(original.read_bytes())


def test_kept_bytes_are_the_files_and_the_source_may_be_a_packed_set(tmp_path, photos):
    keep = PackSettings(keep_bytes=True)
    pack(photos, tmp_path / "kept", keep, jobs=1)
    for row in rows_of(tmp_path / "kept" / "val-00000-of-00001.arrow").to_pylist():
        assert row["image"]["bytes"] == (photos / row["image"]["path"]).read_bytes()
    pack(tmp_path / "kept", tmp_path / "from_kept", SMALL, jobs=2)
    pack(photos, tmp_path / "direct", SMALL, jobs=1)
    contents = [load_data(tmp_path / name).train for name in ("from_kept", "direct")]
    assert contents[0].fingerprint == contents[1].fingerprint
    assert contents[0].content().tolist() == contents[1].content().tolist()


def test_from_files_a_packed_set_has_a_fingerprint_of_its_own(tmp_path, photos):
    sets = []
    for name, quality in (("fine", 90), ("coarse", 30)):
        pack(photos, tmp_path / name, PackSettings(size=8, quality=quality), jobs=1)
        sets.append(load_data(tmp_path / name, source="files", image_size=8).train)
    sets.append(load_data(photos, source="files", image_size=8).train)
    assert len({one.fingerprint for one in sets}) == 3
    assert len({tuple(one.content().tolist()) for one in sets}) == 1


def test_parquet_and_images_without_a_label(tmp_path, parquet_file):
    parquet_file(tmp_path / "set" / "train.parquet", [0, None, 1, -1, 0] * 30)
    pack(tmp_path / "set", tmp_path / "packed", SMALL, jobs=2)
    labels = rows_of(tmp_path / "packed" / "train-00000-of-00001.arrow")["label"].to_pylist()
    assert labels == [0, None, 1, None, 0] * 30
    data = load_data(tmp_path / "packed")
    assert data.train.unlabelled == 60


def test_shards_do_not_depend_on_the_jobs_and_are_kept_when_finished(tmp_path, photos, many_shards):
    pack(photos, tmp_path / "one", SMALL, jobs=1)
    pack(photos, tmp_path / "two", SMALL, jobs=3)
    expected = shards_of(tmp_path / "one")
    assert len(expected) == 6 + 1
    assert shards_of(tmp_path / "two") == expected
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("*.arrow")}
    missing, damaged = sorted(times)[:2]
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    os.truncate(sorted(times)[2], 100)
    made = []
    pack(photos, tmp_path / "one", SMALL, jobs=1, report=lambda step: made.append(step.shard))
    assert sorted(filter(None, made)) == [path.name for path in sorted(times)[:3]]
    assert shards_of(tmp_path / "one") == expected
    assert all(path.stat().st_mtime_ns == times[path] for path in sorted(times)[3:])


def test_a_pack_killed_at_random_moments_ends_with_the_same_bytes(tmp_path, photos, many_shards):
    begin = time.monotonic()
    whole = pack(photos, tmp_path / "whole", SMALL, jobs=2)
    took = time.monotonic() - begin
    draw = random.Random(0)
    for _ in range(4):
        process = multiprocessing.get_context("fork").Process(
            target=pack, args=(photos, tmp_path / "killed", SMALL), kwargs={"jobs": 2}
        )
        process.start()
        process.join(draw.uniform(0, took))
        process.kill()
        process.join()
    killed = pack(photos, tmp_path / "killed", SMALL, jobs=2)
    assert shards_of(tmp_path / "killed") == shards_of(tmp_path / "whole")
    assert killed.digest == whole.digest
    assert {path.suffix for path in (tmp_path / "killed").iterdir()} == {".arrow", ".json"}


def test_an_unfinished_pack_is_refused_by_readers(tmp_path, photos, many_shards):
    pack(photos, tmp_path / "packed", SMALL, jobs=1)
    (tmp_path / "packed" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"has no manifest\.json: .* run the same `stillroom pack` command again"):
        load_data(tmp_path / "packed")
    (tmp_path / "packed" / "progress.json").unlink()
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        load_data(tmp_path / "packed")


def test_a_packed_set_with_a_missing_or_foreign_shard_is_refused(tmp_path, photos, many_shards):
    pack(photos, tmp_path / "packed", SMALL, jobs=1)
    (tmp_path / "packed" / "train-00002-of-00006.arrow").rename(tmp_path / "aside")
    with pytest.raises(InputError, match=r"lacks train-00002-of-00006\.arrow"):
        load_data(tmp_path / "packed")
    (tmp_path / "packed" / "val-00000-of-00001.arrow").rename(tmp_path / "packed" / "train-00002-of-00006.arrow")
    with pytest.raises(InputError, match=r"missing: val-00000-of-00001\.arrow"):
        load_data(tmp_path / "packed")


def test_broken_images_are_named_together_and_repaired_ones_are_packed_again(tmp_path, photos, many_shards):
    paths = sorted((photos / "train").rglob("*.JPEG"))
    for path in (paths[3], paths[200]):
        path.rename(path.with_suffix(".aside"))
        path.write_bytes(path.with_suffix(".aside").read_bytes()[:300])
    with pytest.raises(InputError, match=r"2 of 366 images cannot be read: .*skip_broken=0\.006"):
        pack(photos, tmp_path / "packed", SMALL, jobs=2)
    assert not (tmp_path / "packed" / "manifest.json").exists()
    manifest = pack(photos, tmp_path / "packed", SMALL, jobs=2, skip_broken=0.01)
    assert manifest.splits["train"].images == 358
    assert len(manifest.splits["train"].broken) == 2
    assert len(load_data(tmp_path / "packed").train) == 358
    for path in (paths[3], paths[200]):
        path.unlink()
        path.with_suffix(".aside").rename(path)
    assert pack(photos, tmp_path / "packed", SMALL, jobs=2).splits["train"].images == 360


def test_a_worker_that_dies_is_reported_and_finished_shards_are_kept(tmp_path, photos, many_shards, monkeypatch):
    from stillroom.data import pack as module

    original = module._try

    def die(settings, source):
        if str(source).endswith("n00000002_50.JPEG"):
            os.kill(os.getpid(), 9)
        return original(settings, source)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_try", die)
        patch.setattr(module, "_sample", lambda listing: [])
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            pack(photos, tmp_path / "packed", SMALL, jobs=2)
    assert not multiprocessing.active_children()
    pack(photos, tmp_path / "packed", SMALL, jobs=2)


def test_ctrl_c_leaves_no_process_and_no_half_written_file(tmp_path, photos, many_shards):
    def interrupt(step):
        if step.done == 128 and not step.shard:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(photos, tmp_path / "packed", SMALL, jobs=2, report=interrupt)
    assert not multiprocessing.active_children()
    names = sorted(path.name for path in (tmp_path / "packed").iterdir())
    assert names == ["progress.json", "train-00000-of-00006.arrow"]


def test_what_cannot_be_packed_is_refused(tmp_path, photos, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    for source, folder, words in (
        (photos, photos / "packed", "inside SRC"), (photos, tmp_path, "contains SRC"),
        (photos, other, r"holds thesis\.tex"), (photos, other / "thesis.tex", "a file"),
        (photos / "none", tmp_path / "packed", "not a folder"),
        (write_coco(tmp_path / "coco"), tmp_path / "packed", "have boxes"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            pack(source, folder, SMALL)
    for settings, words in (
        (PackSettings(size=7), "size is 7"), (PackSettings(quality=101), "quality is 101"),
        (PackSettings(shard_mb=0), "shard_mb is 0"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            pack(photos, tmp_path / "packed", settings)
    monkeypatch.setattr("shutil.disk_usage", lambda path: namedtuple("Usage", "free")(1000))
    with pytest.raises(InputError, match=r"1 kB are free there; make room"):
        pack(photos, tmp_path / "packed", SMALL)


def test_other_settings_and_another_set_are_refused(tmp_path, photos):
    pack(photos, tmp_path / "packed", SMALL, jobs=1)
    with pytest.raises(InputError, match="holds a pack with size=8, not 9"):
        pack(photos, tmp_path / "packed", PackSettings(size=9, shard_mb=1))
    next((photos / "train" / "n00000000").iterdir()).unlink()
    with pytest.raises(InputError, match="have changed since"):
        pack(photos, tmp_path / "packed", SMALL)


def test_a_folder_in_use_is_refused(tmp_path, photos, monkeypatch):
    import filelock

    (tmp_path / "packed").mkdir()
    real = filelock.FileLock
    monkeypatch.setattr(filelock, "FileLock", lambda path, timeout, **rest: real(path, timeout=0, **rest))
    with real(tmp_path / "packed" / ".lock"), pytest.raises(InUse, match="another process packs into it"):
        pack(photos, tmp_path / "packed", SMALL)
