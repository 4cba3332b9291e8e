"""The main score of a task."""

from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.scores import SCORES, score_of, score_of_row, score_text


def test_a_run_of_an_earlier_version_is_scored_as_a_classifier():
    assert score_of({"seed": 0}) is SCORES["classification"]
    assert score_of({"task": "detection"}).column == "val_ap"


@pytest.mark.parametrize("task", ["auto", ["detection"], None])
def test_a_task_of_no_score_is_refused(task):
    with pytest.raises(InputError, match="the tasks are classification, detection"):
        score_of({"task": task})


def test_a_row_tells_its_score_and_shows_it():
    row = {"val_ap": 33.26, "val_ap50": 53.61, "val_ap75": 35.0}
    assert score_of_row(row) is SCORES["detection"]
    assert score_text(row) == "AP 33.26 %, AP50 53.61 %"
    assert score_text({"val_top1": 57.5, "val_top5": 80.0}, 1) == "57.5 %"
    assert score_text({"val_ap": None, "val_ap50": None}) == ""
    assert score_text({}) == ""
