"""Arrow files as a data set: both formats, all names, labels as in Parquet."""

import numpy as np
import pyarrow as pa
import pytest

from stillroom.data import load_data
from stillroom.data.arrow_shards import find_arrow
from stillroom.errors import InputError
from tests.data.image_files import as_array


@pytest.mark.parametrize(
    "names",
    [("train-00001-of-00002", "train-00000-of-00002", "validation"), ("data/train", "data/train2", "data/test"),
     ("set-train-00000-of-00002", "set-train-00001-of-00002", "set-test"),
     ("train/data-00000-of-00002", "train/data-00001-of-00002", "val/data-00000-of-00001")],
)  # fmt: skip
def test_splits_are_found_by_their_names(tmp_path, names):
    assert find_arrow(tmp_path) is None
    for name in names:
        path = tmp_path / f"{name}.arrow"
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    train, val = find_arrow(tmp_path)
    assert train == sorted(tmp_path / f"{name}.arrow" for name in names[:2])
    assert val == [tmp_path / f"{names[2]}.arrow"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_set_is_loaded_like_any_other(tmp_path, arrow_file, image, stream, kind):
    arrow_file(tmp_path / "train-0.arrow", [1, 0, 1, 1], stream=stream, kind=kind)
    arrow_file(tmp_path / "train-1.arrow", [0, None], stream=stream, kind=kind)
    arrow_file(tmp_path / "val.arrow", [0, 1], stream=stream, kind=kind)
    data = load_data(tmp_path)
    assert data.train.labels.tolist() == [1, 0, 1, 1, 0, -1]
    assert data.train.classes == ("ant", "bee")
    assert np.array_equal(data.train.images[3], as_array(image(3)))
    assert np.array_equal(data.train.images[5], as_array(image(1)))
    assert len(data.val) == 2


def test_a_missing_file_of_a_numbered_set_is_named(tmp_path, arrow_file):
    for number in (0, 2):
        arrow_file(tmp_path / f"train-{number:05}-of-00003.arrow", [0, 1])
    with pytest.raises(InputError, match=r"lacks train-00001-of-00003\.arrow"):
        load_data(tmp_path)


def test_labels_and_columns_are_checked_as_in_parquet(tmp_path, arrow_file):
    arrow_file(tmp_path / "train.arrow", [0, 1, 2])
    with pytest.raises(InputError, match=r"1 label of .* beyond the 2 classes \(row 2: 2\)"):
        load_data(tmp_path)
    table = pa.table({"picture": [b""], "label": [1]})
    with pa.ipc.new_stream(tmp_path / "train.arrow", table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputError, match="has columns picture, label; give image"):
        load_data(tmp_path)
