"""The main score of a task."""

from __future__ import annotations

from stillroom.scores import SCORES, score_of


def test_a_run_of_an_earlier_version_is_scored_as_a_classifier():
    assert score_of({"seed": 0}) is SCORES["classification"]
    assert score_of({"task": "detection"}).column == "val_ap"
