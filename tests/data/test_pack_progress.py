"""The record of an unfinished pack: what is finished, what is another pack, and what is damaged."""

import pytest

from stillroom.data.pack_manifest import PROGRESS, ShardRecord
from stillroom.data.pack_progress import FinishedShard, PackProgress, read_progress
from stillroom.data.pack_writer import file_sha256
from stillroom.errors import InputError

IDENTITY = {"source": "set", "size": 8, "listing": "ab"}


def test_shards_divide_each_split(tmp_path):
    shards = list(PackProgress(tmp_path, IDENTITY, 4).shards({"train": 9, "val": 4}))
    assert [(shard.name, shard.places) for shard in shards] == [
        ("train-00000-of-00003.arrow", range(4)), ("train-00001-of-00003.arrow", range(4, 8)),
        ("train-00002-of-00003.arrow", range(8, 9)), ("val-00000-of-00001.arrow", range(4)),
    ]  # fmt: skip


def test_a_shard_is_finished_if_it_and_its_original_files_are_unchanged(tmp_path):
    progress = PackProgress(tmp_path, IDENTITY, 4)
    (shard,) = progress.shards({"train": 4})
    path = tmp_path / shard.name
    path.write_bytes(b"shard")
    record = ShardRecord(shard.name, 4, 5, file_sha256(path))
    progress.finished[shard.name] = FinishedShard(record, "state", [(2, "empty")])
    progress.write()
    again = read_progress(tmp_path, IDENTITY)
    assert again.finished == progress.finished
    assert again.is_finished(shard, "state")
    assert not again.is_finished(shard, "another state")
    path.write_bytes(b"other")
    assert not again.is_finished(shard, "state")


def test_another_or_damaged_record_is_refused(tmp_path):
    assert read_progress(tmp_path, IDENTITY) is None
    PackProgress(tmp_path, IDENTITY, 4).write()
    for changed, words in (({"size": 9}, "size=8, not 9"), ({"listing": "cd"}, "have changed since")):
        with pytest.raises(InputError, match=words):
            read_progress(tmp_path, IDENTITY | changed)
    (tmp_path / PROGRESS).write_text("[]")
    with pytest.raises(InputError, match=r"progress\.json is damaged"):
        read_progress(tmp_path, IDENTITY)
