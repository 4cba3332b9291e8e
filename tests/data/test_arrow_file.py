"""Arrow files: damage is named, and never read beyond."""

import os

import numpy as np
import pyarrow as pa
import pytest

from stillroom.data import load_data
from stillroom.data.arrow_shards import list_arrow
from stillroom.errors import InputError


@pytest.mark.parametrize("stream", [True, False])
def test_a_shard_cut_short_is_refused_also_at_the_end_of_a_batch(tmp_path, arrow_file, stream):
    whole = arrow_file(tmp_path / "whole.arrow", [0, 1] * 4, stream=stream).read_bytes()
    path = tmp_path / "set" / "train-00000-of-00001.arrow"
    path.parent.mkdir()
    shorter = arrow_file(tmp_path / "shorter.arrow", [0, 1] * 3, stream=stream).read_bytes()
    ends = [len(whole) - 8, len(whole) - 1, len(whole) // 2, len(shorter) - 8, 5, 0]
    for end in ends:
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="train-00000-of-00001") as caught:
            load_data(path.parent)
        assert "\n" not in str(caught.value)


def test_damage_inside_a_shard_never_reads_beyond_it(tmp_path, arrow_file):
    whole = arrow_file(tmp_path / "train.arrow", [0, 1] * 4).read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for place in draw.integers(0, len(whole) - 8, size=3):
            damaged[place] = draw.integers(256)
        (tmp_path / "train.arrow").write_bytes(damaged)
        try:
            train, _ = list_arrow([tmp_path / "train.arrow"], [])
            for place in range(len(train.labels)):
                train.store[place]
        except InputError as error:
            assert "train.arrow" in str(error)  # noqa: PT017


def test_compressed_files_are_refused(tmp_path, arrow_file):
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    arrow_file(tmp_path / "train.arrow", [0, 1] * 4, [bytes(1000)] * 8, options=options)
    with pytest.raises(InputError, match="compressed; write it without"):
        load_data(tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "train.arrow")
    with pytest.raises(InputError, match="not a regular file"):
        load_data(tmp_path)
