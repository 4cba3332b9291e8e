from __future__ import annotations

from stillroom.loggers import LoggedRun, Logger
from stillroom.loggers.logger import IDS, numbers_in


def test_a_subclass_needs_only_the_methods_it_overrides(tmp_path):
    class Quiet(Logger):
        pass

    quiet = Quiet()
    quiet.start(LoggedRun("r", tmp_path, {}, 5, 0))
    quiet.step(1, {})
    quiet.epoch(1, {})
    quiet.finish({})
    quiet.close()
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_kept_for_each_tracker_and_a_damaged_file_is_none(tmp_path):
    run = LoggedRun("r", tmp_path, {}, 5, 0)
    assert run.known_id("wandb") is None
    run.keep_id("wandb", "a1")
    run.keep_id("mlflow", "b2")
    assert (run.known_id("wandb"), run.known_id("mlflow")) == ("a1", "b2")
    (tmp_path / IDS).write_text("{")
    assert run.known_id("wandb") is None
    (tmp_path / IDS).write_text('{"wandb": 3}')
    assert run.known_id("wandb") is None


def test_numbers_are_found_in_nested_mappings_and_the_rest_is_left_out():
    row = {"loss": 1, "terms": {"ce": 0.5, "kd": 0.25}, "val_top1": None, "device": "cpu", "done": True}
    assert numbers_in(row) == {"loss": 1.0, "terms/ce": 0.5, "terms/kd": 0.25}
