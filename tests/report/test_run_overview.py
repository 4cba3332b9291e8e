from __future__ import annotations

import os

import pytest

from stillroom.errors import InputError
from stillroom.report.run_overview import COLUMNS, find_runs, list_runs, overview_of
from stillroom.runtime.folder_lock import locked
from tests.report.pages import EPOCHS, made_run


@pytest.fixture
def place(tmp_path):
    """Two runs, a comparison with one more, and other folders."""
    for number, (folder, name, method, last) in enumerate(
        [(tmp_path, "b", "kd", 60.0), (tmp_path, "a", "ce", 50.0), (tmp_path / "c", "d", "dkd", 70.0)]
    ):
        run = made_run(folder, name, ["x", "y"], method, last=last)
        os.utime(run.path / "summary.json", (1000 * number + 1, 1000 * number + 1))
    (tmp_path / "c" / "comparison.yaml").write_text("methods: {mine: dkd}\n")
    (tmp_path / "bank").mkdir()
    made_run(tmp_path / "bank", "hidden", ["x"])
    return tmp_path


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("name", ["a", "b", "c/d"]),
        ("top1", ["c/d", "b", "a"]),
        ("date", ["c/d", "a", "b"]),
        ("method", ["b", "a", "c/d"]),
    ],
)
def test_runs_in_a_folder_and_in_its_comparisons_are_listed_in_order(place, sort, names):
    assert [one.name for one in list_runs([place], sort)] == names


def test_every_column_can_be_sorted_by_and_a_run_is_listed_once(place):
    for column in COLUMNS:
        assert len(list_runs([place, place / "b", place / "c"], column)) == 3


def test_a_run_is_described(place):
    one = overview_of(place / "c" / "d")
    assert (one.method, one.student, one.data, one.value, one.state) == ("mine", "small", "made", 70.0, "finished")
    assert overview_of(place / "a").method == "labels only"


def test_a_run_that_is_not_finished_in_use_or_damaged_says_so(place):
    (place / "a" / "summary.json").unlink()
    assert overview_of(place / "a").state == f"epoch {EPOCHS} of {EPOCHS}"
    assert overview_of(place / "a").value == 50.0
    (place / "a" / "metrics.jsonl").unlink()
    assert (overview_of(place / "a").state, overview_of(place / "a").value) == (f"epoch 0 of {EPOCHS}", None)
    with locked(place / "b" / ".lock"):
        assert overview_of(place / "b").state == "in use"
    (place / "b" / "config.yaml").write_text("{")
    assert overview_of(place / "b").state == "unreadable"
    assert len(list_runs([place])) == 3


def test_a_folder_without_runs_and_a_missing_one_are_refused(place):
    (place / "empty").mkdir()
    with pytest.raises(InputError, match="there are no runs"):
        list_runs([place / "empty"])
    with pytest.raises(InputError, match="there is no such folder"):
        list_runs([place / "nothing"])
    assert find_runs(place / "nothing") == []
