"""What a comparison calls its models."""

from __future__ import annotations

from stillroom.compare.labels import is_same_model, short_labels


def test_labels_are_short_where_that_tells_models_apart():
    models = {"runs/a/teacher": "runs/a/teacher", "timm:resnet18": "timm:resnet18"}
    assert short_labels(models, {}) == {"teacher": "runs/a/teacher", "resnet18": "timm:resnet18"}
    alike = {"runs/a/teacher": "runs/a/teacher", "runs/b/teacher": "runs/b/teacher"}
    assert short_labels(alike, {}) == alike


def test_a_model_of_an_earlier_call_keeps_its_label():
    there = {"runs/a/teacher": "runs/a/teacher"}
    assert short_labels({"runs/a/teacher": "runs/a/teacher"}, there) == there
    both = short_labels({"runs/b/teacher": "runs/b/teacher"}, {"teacher": "runs/a/teacher"})
    assert both == {"runs/b/teacher": "runs/b/teacher"}, "its short label is taken"


def test_a_moved_run_is_the_same_model_and_one_that_is_still_there_is_not(tmp_path):
    here, there = tmp_path / "new" / "teacher", tmp_path / "old" / "teacher"
    here.mkdir(parents=True)
    (here / "config.yaml").touch()
    assert is_same_model(str(here), str(there))
    assert not is_same_model(str(here), str(there.with_name("other")))
    there.mkdir(parents=True)
    (there / "config.yaml").touch()
    assert not is_same_model(str(here), str(there))
