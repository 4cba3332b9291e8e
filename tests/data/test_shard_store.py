"""Shard store: any image by its row, from any process, and files that change are named."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from stillroom.data.arrow_file import ArrowFile
from stillroom.data.arrow_shards import list_arrow
from stillroom.data.shard_store import ShardStore
from stillroom.errors import InputError
from tests.data.image_files import png


def test_random_access_by_row_equals_reading_in_order(tmp_path, arrow_file, image):
    encoded = [png(image(number)) + bytes(number) for number in range(11)]
    encoded[4] = None
    encoded[7] = b""
    one = arrow_file(tmp_path / "train-0.arrow", [0, 1] * 3, encoded[:6])
    two = arrow_file(tmp_path / "train-1.arrow", [1] * 5, encoded[6:], stream=False)
    train, _ = list_arrow([one, two], [])
    assert [data for chunk in train.chunks() for data in chunk] == encoded
    places = np.random.default_rng(0).permutation(11).tolist()
    for store in (train.store, pickle.loads(pickle.dumps(train.store))):
        assert len(store) == 11
        assert [store[place] for place in places] == [encoded[place] for place in places]
        with pytest.raises(IndexError):
            store[11]
    assert train.names[7] == "train-1.arrow row 1"


def test_a_used_store_is_read_in_a_forked_process(tmp_path, arrow_file):
    train, _ = list_arrow([arrow_file(tmp_path / "train.arrow", [0, 1, 0, 1])], [])
    expected = train.store[2]
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, train.store[2])
        os._exit(0)
    assert os.read(reading, 10_000) == expected
    os.wait()


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_more_files_than_may_be_open(tmp_path, arrow_file, monkeypatch):
    monkeypatch.setattr("stillroom.data.shard_store._OPEN", 1)
    files = [arrow_file(tmp_path / f"train-{number}.arrow", [0, 1]) for number in range(3)]
    before = open_files()
    train, _ = list_arrow(files, [])
    assert len({train.store[place] for place in [0, 1, 2, 3, 4, 5] * 3}) == 2
    assert open_files() <= before + 1
    del train
    assert open_files() <= before


def test_a_file_that_changes_or_vanishes_during_a_run_is_named(tmp_path, arrow_file):
    path = arrow_file(tmp_path / "train.arrow", [0, 1] * 4)
    listed, _ = list_arrow([path], [])
    fresh = pickle.dumps(listed.store)
    listed.store[0]
    os.truncate(path, path.stat().st_size // 3)
    with pytest.raises(InputError, match=r"train\.arrow was cut short"):
        listed.store[7]
    with pytest.raises(InputError, match=r"train\.arrow has changed"):
        pickle.loads(fresh)[0]
    path.unlink()
    with pytest.raises(InputError, match=r"train\.arrow cannot be read \(no such file"):
        pickle.loads(fresh)[0]


def test_a_store_takes_a_few_bytes_an_image(tmp_path, arrow_file):
    path = arrow_file(tmp_path / "train.arrow", [0, 1] * 500, [b"image"] * 1000)
    assert len(pickle.dumps(ShardStore([ArrowFile.open(path)]))) < 1000 * 13 + 2000
