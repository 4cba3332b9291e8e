"""Writing one shard: atomic, and the same bytes for the same rows."""

import hashlib

import pytest

from stillroom.data.arrow_file import ArrowFile
from stillroom.data.pack_image import PackedImage
from stillroom.data.pack_writer import PackedRow, write_shard
from stillroom.data.shard_store import ShardStore

ROWS = [PackedRow(PackedImage(b"one", 5), "a/1.png", 1), PackedRow(PackedImage(b"two", -6), "a/\udcff.png", None)]


def test_a_shard_is_read_as_it_was_written(tmp_path):
    record = write_shard(tmp_path / "train.arrow", ["ant", "bee"], iter([ROWS[:1], [], ROWS[1:]]))
    content = (tmp_path / "train.arrow").read_bytes()
    assert (record.rows, record.bytes, record.sha256) == (2, len(content), hashlib.sha256(content).hexdigest())
    file = ArrowFile.open(tmp_path / "train.arrow")
    assert file.class_names == ("ant", "bee")
    assert file.labels.tolist() == [1, -1]
    assert file.content.tolist() == [5, -6]
    store = ShardStore([file])
    assert [store[0], store[1]] == [b"one", b"two"]


def test_nothing_is_left_when_the_rows_fail(tmp_path):
    def rows():
        yield ROWS
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "train.arrow", ["ant", "bee"], rows())
    assert list(tmp_path.iterdir()) == []
