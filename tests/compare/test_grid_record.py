from __future__ import annotations

import pytest
import yaml

from stillroom.compare.grid_record import joined_record, write_record
from stillroom.errors import InputError
from tests.compare.test_grid import grid_of


def test_later_calls_add_to_the_record_and_never_change_it(tmp_path):
    first = grid_of(tmp_path, methods="kd", seeds=2, reference="kd")
    write_record(first.folder, joined_record(first))
    later = grid_of(tmp_path, {"bank_gb": 3.0}, methods="ldrld", students="resnet8,resnet14", seeds=[5])
    write_record(later.folder, joined_record(later))
    record = yaml.safe_load((first.folder / "comparison.yaml").read_text())
    assert record["methods"] == {"kd": "kd", "ldrld": "ldrld"}
    assert record["reference"] == "kd"
    assert list(record["students"]) == ["resnet20", "resnet8", "resnet14"]
    assert record["seeds"] == [0, 1, 5]
    for settings, changed in (({"epochs": 9}, {}), ({}, {"methods": {"kd": "dkd"}})):
        other = grid_of(tmp_path, settings, **changed)
        with pytest.raises(InputError, match=r"other settings \((epochs 8 there, 9 now|methods kd 'kd' there)"):
            joined_record(other)


@pytest.mark.parametrize(("key", "value"), [
    ("settings", [1]), ("seeds", "0,1"), ("seeds", [0, "1"]), ("reference", 3), ("settings", None),
])  # fmt: skip
def test_a_record_with_values_of_another_kind_is_refused_in_one_line(tmp_path, key, value):
    grid = grid_of(tmp_path)
    write_record(grid.folder, {**grid.record, key: value})
    with pytest.raises(InputError, match=rf"{key}=.* is of another kind\); give another name="):
        joined_record(grid)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "thesis.tex").touch()
    with pytest.raises(InputError, match="nothing is overwritten"):
        joined_record(grid_of(tmp_path))
