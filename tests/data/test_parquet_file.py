"""Parquet files: what is read, and how much of it is in memory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stillroom.data.parquet_file import ParquetFile, read_rows_in_order


def write(path, encoded, **options):
    rows = [None if data is None else {"bytes": data, "path": "a.png"} for data in encoded]
    images = pa.array(rows, pa.struct([("path", pa.string()), ("bytes", pa.binary())]))
    pq.write_table(pa.table({"img": images, "more": [1] * len(rows), "fine_label": [0] * len(rows)}), path, **options)


def test_batches_are_of_images_and_labels_only(tmp_path):
    encoded = [b"one", None, b"", b"four"]
    write(tmp_path / "train.parquet", encoded)
    file = ParquetFile.open(tmp_path / "train.parquet")
    (batch,) = file.batches()
    assert batch.schema == file.schema()
    assert batch.schema.names == ["img", "fine_label"]
    assert [data for chunk in read_rows_in_order([file, file]) for data in chunk] == encoded * 2
    assert 7 <= file.image_bytes() <= 200


def test_a_few_row_groups_are_in_memory_at_a_time(tmp_path):
    draw = np.random.default_rng(0)
    write(tmp_path / "train.parquet", [draw.bytes(100_000) for _ in range(200)], row_group_size=10)
    pool, most = pa.default_memory_pool(), 0
    file = ParquetFile.open(tmp_path / "train.parquet")
    before = pool.bytes_allocated()
    file._rows_at_once = lambda: 10
    for batch in file.batches():
        most = max(most, pool.bytes_allocated() - before)
        del batch
    assert most < 6e6
