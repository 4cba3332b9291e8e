import os

import pytest

from stillroom.data import load_data
from stillroom.data.parquet import find_parquet, list_parquet
from stillroom.errors import InputError


def test_splits_are_found_in_the_folder_or_below_data(tmp_path):
    assert find_parquet(tmp_path) is None
    (tmp_path / "data").mkdir()
    names = ("train-00001-of-2", "train-00000-of-2", "test-00000-of-1", "validation-00000-of-1")
    for name in names:
        (tmp_path / "data" / f"{name}.parquet").write_text("")
    train, val = find_parquet(tmp_path)
    assert [path.name for path in train] == ["train-00000-of-2.parquet", "train-00001-of-2.parquet"]
    assert [path.name for path in val] == ["validation-00000-of-1.parquet"]


def test_rows_labels_and_class_names(tmp_path, parquet_file):
    files = [tmp_path / f"train-{number}.parquet" for number in range(2)]
    parquet_file(files[0], [1, 0])
    parquet_file(files[1], [1])
    train, val = list_parquet(files, [])
    assert val is None
    assert train.classes == ("ant", "bee")
    assert train.labels.tolist() == [1, 0, 1]
    assert list(train.names) == ["train-0.parquet row 0", "train-0.parquet row 1", "train-1.parquet row 0"]
    assert train.decode(None).images.shape == (3, 3, 8, 8)


def test_classes_are_numbered_where_nothing_names_them(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 2], names=None)
    parquet_file(tmp_path / "val.parquet", [1], names=None)
    train, val = list_parquet([tmp_path / "train.parquet"], [tmp_path / "val.parquet"])
    assert train.classes == val.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "kind", "names", "words"),
    [
        ([None, -1], "int64", ("a", "b"), r"no row of .* has a label; .* give labels=none"),
        ([0, -1, 1, -7], "int64", ("a", "b"), r"1 row of .*train\.parquet without a label \(row 3\)"),
        ([0, 2, 1, 9], "int64", ("a", "b"), r"2 labels of .* beyond the 2 classes \(row 1: 2, row 3: 9\)"),
        ([0, 1, 10**12, 1], "int64", None, r"1 label of .* beyond the 4 classes \(row 2: 1000000000000\)"),
        ([0, 1, 2**63 + 5, 1], "uint64", None, r"1 row of .* without a label \(row 2\)"),
        ([0, 0], "int64", None, "has 1 class;"),
        ([], "int64", ("a", "b"), "has no rows"),
        ([0.0, 0.5], "float64", ("a", "b"), "column label is double; give integers"),
    ],
)
def test_bad_labels_are_named(tmp_path, parquet_file, labels, kind, names, words):
    parquet_file(tmp_path / "train.parquet", labels, names, kind=kind)
    with pytest.raises(InputError, match=words):
        load_data(tmp_path)


@pytest.mark.parametrize("kind", ["int64", "int8"])
def test_training_rows_without_a_label_are_training_images_only(tmp_path, parquet_file, kind):
    parquet_file(tmp_path / "train.parquet", [0, None, 1, -1, 0, 1], kind=kind)
    data = load_data(tmp_path, val_fraction=0.4)
    assert sorted(data.train.ids[data.train.labels < 0].tolist()) == [1, 3]
    assert data.val.unlabelled == 0
    assert data.notes == ("2 rows without a label: training images without a label",)
    parquet_file(tmp_path / "val.parquet", [0, -1])
    with pytest.raises(InputError, match=r"1 row of .*val\.parquet without a label \(row 1\)"):
        load_data(tmp_path)


def test_without_labels_hidden_ones_are_no_fault(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [-1, None])
    parquet_file(tmp_path / "val.parquet", [0, 1])
    data = load_data(tmp_path, labels="none")
    assert (data.train.unlabelled, data.val.unlabelled) == (2, 0)


@pytest.mark.parametrize("names", [None, "ab", 5, {}, []])
def test_class_names_that_are_no_list_are_as_none(tmp_path, parquet_file, names):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1], names, raw_names=True)
    assert load_data(tmp_path).train.classes == ("0", "1")


def test_class_names_must_agree_in_all_files(tmp_path, parquet_file):
    parquet_file(tmp_path / "train-0.parquet", [0, 1])
    parquet_file(tmp_path / "train-1.parquet", [0, 1], names=("bee", "ant"))
    with pytest.raises(InputError, match=r"train-1\.parquet differ \(in order\)"):
        load_data(tmp_path)
    (tmp_path / "train-1.parquet").unlink()
    parquet_file(tmp_path / "test.parquet", [0, 1], names=("ant", "cat"))
    with pytest.raises(InputError, match=r"differ \(bee, cat\)"):
        load_data(tmp_path)


def test_everything_wrong_is_told_at_once(tmp_path, parquet_file):
    parquet_file(tmp_path / "train-0.parquet", [0, 1, -7], encoded=[b"", b"x", None])
    parquet_file(tmp_path / "train-1.parquet", [0, 7])
    parquet_file(tmp_path / "val.parquet", [])
    with pytest.raises(InputError, match="4 problems") as caught:
        load_data(tmp_path)
    for part in ("row 2", "row 1: 7", "val.parquet has no rows", "3 of 5 images cannot be read"):
        assert part in str(caught.value)


def test_all_unreadable_files_are_named(tmp_path, parquet_file):
    parquet_file(tmp_path / "train-0.parquet", [0, 1])
    whole = (tmp_path / "train-0.parquet").read_bytes()
    (tmp_path / "train-1.parquet").write_bytes(whole[:-20])
    (tmp_path / "train-2.parquet").write_bytes(b"")
    (tmp_path / "val.parquet").mkdir()
    with pytest.raises(InputError, match=r"3 problems.*train-1\..*train-2\..*val\.parquet is not a regular file"):
        load_data(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="not a regular file"):
        load_data(tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"bytes": "text"}], r"struct<bytes: string>; give image as a struct of bytes \(binary\)"),
        ([{"bytes": [1, 2]}], "bytes: list"),
        ([{"path": "x"}], "struct<path: string>"),
        ([b"x"], "column image is binary"),
    ],
)
def test_dataset_of_another_type_are_refused(tmp_path, rows, words):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": rows, "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=words):
        load_data(tmp_path)


def test_unreadable_file_and_missing_columns(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "train.parquet"
    path.write_text("nonsense")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        list_parquet([path], [])
    pq.write_table(pa.table({"pixels": [1], "label": [0]}), path)
    with pytest.raises(InputError, match="has columns pixels, label; give image"):
        list_parquet([path], [])
    rows = pa.array([{"bytes": b"", "path": ""}])
    pq.write_table(pa.table({"image": rows, "label": ["ant"]}), path)
    with pytest.raises(InputError, match="column label is string; give integers"):
        list_parquet([path], [])


def test_damage_inside_a_file_is_named(tmp_path, parquet_file):
    path = tmp_path / "train.parquet"
    parquet_file(path, [0, 1] * 500)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(InputError, match=r"train\.parquet is not a readable Parquet file"):
        list_parquet([path], [])[0].decode(None)
