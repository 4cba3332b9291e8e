import pytest

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
    assert train.names == ["train-0.parquet row 0", "train-0.parquet row 1", "train-1.parquet row 0"]
    assert train.decode(None).images.shape == (3, 3, 8, 8)


def test_classes_are_numbered_where_nothing_names_them(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 2], names=None)
    parquet_file(tmp_path / "val.parquet", [1], names=None)
    train, val = list_parquet([tmp_path / "train.parquet"], [tmp_path / "val.parquet"])
    assert train.classes == val.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, None], ("a", "b"), r"train\.parquet row 1 has no label"),
        ([0, -1], ("a", "b"), r"train\.parquet row 1 has no label"),
        ([0, 2], ("a", "b"), "label 2 but 2 class names"),
        ([0, 0], None, "has 1 class"),
    ],
)
def test_bad_labels_are_named(tmp_path, parquet_file, labels, names, words):
    parquet_file(tmp_path / "train.parquet", labels, names)
    with pytest.raises(InputError, match=words):
        list_parquet([tmp_path / "train.parquet"], [])


def test_class_names_must_agree(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 1])
    parquet_file(tmp_path / "test.parquet", [0, 1], names=("ant", "cat"))
    with pytest.raises(InputError, match=r"differ \(bee, cat\)"):
        list_parquet([tmp_path / "train.parquet"], [tmp_path / "test.parquet"])


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
