"""Parquet cache: files give what memory gives, and the copy is made once, whatever happens to it."""

import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib

import pytest
import torch

from stillroom.data import Loader, load_data
from stillroom.data.parquet_file import ParquetFile
from stillroom.errors import InputError
from tests.data.image_files import png


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """The folder of the copies, in a cache of its own."""
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "parquet"


@pytest.fixture
def reads(monkeypatch):
    """The names of the Parquet files whose images are read."""
    names = []
    batches = ParquetFile.batches

    def counted(self):
        names.append(self.path.name)
        return batches(self)

    monkeypatch.setattr(ParquetFile, "batches", counted)
    return names


def batches(data, split):
    images = getattr(data, split)
    train = split == "train"
    loader = Loader(
        images, batch_size=4, input_format=data.input_format, augment=data.augment if train else None, shuffle=train,
        device="cpu", workers=0,
    )  # fmt: skip
    return [batch for epoch in range(2) for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("own_val", [False, True])
def test_batches_from_files_equal_those_from_memory(tmp_path, copies, parquet_file, image, own_val):
    encoded = [png(image(number, size=(12, 9))) for number in range(12)]
    encoded[2], encoded[5], encoded[7] = b"no image", None, b""
    parquet_file(tmp_path / "set" / "train-0.parquet", [0, 1] * 6, encoded=encoded)
    more = [png(image(number, size=(9, 12))) for number in range(20, 32)]
    parquet_file(tmp_path / "set" / "train-1.parquet", [None, 1, 0, -1] * 3, encoded=more)
    if own_val:
        parquet_file(tmp_path / "set" / "val.parquet", [1, 0, 1], encoded=[*encoded[:2], b"no image"])
    one, other = (
        load_data(tmp_path / "set", source=kind, image_size=8, val_fraction=0.4, skip_broken=0.5)
        for kind in ("memory", "files")
    )
    assert (one.train.kind, other.train.kind) == ("memory", "files")
    assert one.broken == other.broken
    assert one.broken[:3] == ("train-0.parquet row 2", "train-0.parquet row 5", "train-0.parquet row 7")
    assert other.train.unlabelled == 6
    for split in ("train", "val"):
        assert torch.equal(getattr(one, split).content(), getattr(other, split).content())
        pairs = list(zip(batches(one, split), batches(other, split), strict=True))
        assert pairs
        for mine, theirs in pairs:
            assert torch.equal(mine.ids, theirs.ids)
            assert torch.equal(mine.labels, theirs.labels)
            assert torch.equal(mine.images, theirs.images)


def test_the_second_start_reads_no_image_of_the_parquet_files(tmp_path, copies, parquet_file, reads):
    for name in ("train-0", "train-1", "val"):
        parquet_file(tmp_path / f"{name}.parquet", [0, 1, 0, 1])
    said = []
    load_data(tmp_path, source="files", image_size=8, say=said.append)
    assert reads == ["train-0.parquet", "train-1.parquet", "val.parquet"]
    (line,) = said
    assert line.startswith(f"copying 3 Parquet files of {tmp_path} once, 1.7 kB, to {copies}: ")
    load_data(tmp_path, source="files", image_size=8, say=said.append)
    assert len(reads) == 3
    assert len(said) == 1


def test_a_changed_file_is_copied_anew_and_its_old_copy_removed(tmp_path, copies, parquet_file, image, reads):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    parquet_file(tmp_path / "val.parquet", [0, 1])
    before = load_data(tmp_path, source="files", image_size=8)
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1], encoded=[png(image(number)) for number in range(10, 14)])
    after = load_data(tmp_path, source="files", image_size=8)
    assert reads == ["train.parquet", "val.parquet", "train.parquet"]
    assert len(list(copies.glob("*.arrow"))) == 2
    assert before.val.fingerprint == after.val.fingerprint
    places = torch.arange(4)
    assert torch.equal(after.train.pixels(places), load_data(tmp_path, image_size=8).train.pixels(places))


def test_a_damaged_copy_is_made_again(tmp_path, copies, parquet_file, reads):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    expected = load_data(tmp_path, source="files", image_size=8).train.fingerprint
    (copy,) = copies.glob("*.arrow")
    os.truncate(copy, copy.stat().st_size - 20)
    assert load_data(tmp_path, source="files", image_size=8).train.fingerprint == expected
    assert len(reads) == 2


def test_a_parquet_file_that_changes_while_it_is_copied_is_refused(tmp_path, copies, parquet_file, monkeypatch):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    batches = ParquetFile.batches

    def touching(self):
        os.utime(self.path, ns=(1, 1))
        return batches(self)

    monkeypatch.setattr(ParquetFile, "batches", touching)
    with pytest.raises(InputError, match=r"train\.parquet has changed while it was copied"):
        load_data(tmp_path, source="files", image_size=8)
    assert not list(copies.glob("*.arrow"))


KILLED = """
import sys, time
from stillroom.data import load_data
from stillroom.data.parquet_file import ParquetFile

batches = ParquetFile.batches

def slow(self):
    yield from batches(self)
    if self.path.name == "train-1.parquet":
        print("in the middle", flush=True)
        time.sleep(60)

ParquetFile.batches = slow
load_data(sys.argv[1], source="files", image_size=8)
"""


def test_a_copy_that_is_killed_continues_with_the_file_it_was_at(tmp_path, copies, parquet_file, reads):
    for number in range(3):
        parquet_file(tmp_path / f"train-{number}.parquet", [0, 1, 0, 1])
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"in the middle\n"
        assert len([path for path in copies.iterdir() if path.name.endswith(".tmp")]) == 1
        process.send_signal(signal.SIGKILL)
    files = load_data(tmp_path, source="files", image_size=8)
    assert reads == ["train-1.parquet", "train-2.parquet"]
    assert not [path for path in copies.iterdir() if path.name.endswith(".tmp")]
    memory = load_data(tmp_path, source="memory", image_size=8)
    assert torch.equal(files.train.content(), memory.train.content())


def load_slowly(folder, moment, results):
    whole = ParquetFile.batches

    def slow(self):
        results.put("copied")
        time.sleep(moment)
        return whole(self)

    ParquetFile.batches = slow
    results.put(load_data(folder, source="files", image_size=8).train.fingerprint)


def test_processes_that_start_together_make_one_copy(tmp_path, copies, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    processes = [fork.Process(target=load_slowly, args=(tmp_path, 0.3, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in range(4)]
    for process in processes:
        process.join()
    assert found.count("copied") == 1
    assert len(set(found)) == 2


def test_too_little_disk_is_said_before_anything_is_copied(tmp_path, copies, parquet_file, monkeypatch, reads):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match=r"copy of 0\.6 kB in .*parquet, which has 0\.1 kB free; .*STILLROOM_CACHE="):
        load_data(tmp_path, source="files", image_size=8)
    assert reads == []


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, parquet_file, monkeypatch):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"parquet cannot be made \(not a directory\); set STILLROOM_CACHE"):
        load_data(tmp_path, source="files", image_size=8)


def test_a_row_of_a_billion_pixels_is_never_decoded(tmp_path, copies, parquet_file, image):
    header = struct.pack(">IIBBBBB", 32_000, 32_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    huge = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1], encoded=[*[png(image(n)) for n in range(3)], huge])
    with pytest.raises(InputError, match=r"train\.parquet row 3 \(too many pixels\)"):
        load_data(tmp_path, source="files", image_size=8)
