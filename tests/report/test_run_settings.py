from __future__ import annotations

from stillroom.config import make_recipe
from stillroom.report.run_settings import AUTOMATIC, changed_settings, differing_values

GIVEN = {"teacher": "runs/t", "student": "resnet8", "data": "glyphs100"}


def config_of(**settings):
    return make_recipe("distill", GIVEN | settings).flat()


def test_a_run_of_defaults_has_no_changed_setting():
    assert changed_settings(config_of()) == []
    changed = {row.name for row in changed_settings(config_of(optimizer="adamw", epochs=3))}
    assert changed == {"optimizer", "epochs"}, "learning rate, weight decay and schedule follow from these"


def test_what_was_given_is_shown_with_its_default_and_what_is_automatic_as_such():
    rows = {row.name: row for row in changed_settings(config_of(lr=0.2, precision="bf16", pad=3, name="x", runs="y"))}
    assert set(rows) == {"lr", "precision", "pad"}
    assert (rows["lr"].value, rows["lr"].default) == (0.2, 0.1)
    assert (rows["precision"].default, rows["pad"].default) == (None, None)


def test_a_run_with_milestones_differs_in_its_schedule_and_not_in_what_follows_from_it():
    rows = {row.name: (row.value, row.default) for row in changed_settings(config_of(recipe="plain"))}
    assert rows == {"schedule": ("milestones", "onecycle"), "recipe": ("plain", "strong")}
    assert {row.name for row in changed_settings(config_of(milestones=[9]))} == {"schedule", "milestones"}


def test_a_setting_that_is_off_is_not_called_automatic():
    resolved = {"mixup": 0.0, "erase": 0.0, "rand_ops": 2, "auto_augment": "none", "pad": 2}
    rows = {row.name: row.default for row in changed_settings(config_of(ema=0.9) | resolved | {"cutmix": 1.0})}
    assert rows == {"ema": None, "cutmix": 0.0, "pad": None}
    assert {"ema", "cutmix", "pad"} & AUTOMATIC == {"pad"}


def test_a_setting_of_another_version_is_no_reason_to_fail():
    rows = changed_settings(config_of(lr=0.2) | {"optimizer": "no_such", "obsolete": 3})
    assert {"lr", "optimizer"} <= {row.name for row in rows}
    assert "obsolete" not in {row.name for row in rows}


def test_runs_differ_in_what_differs_between_any_two():
    configs = [config_of(name="a"), config_of(lr=0.2, name="b"), config_of(method="kd", name="c")]
    assert differing_values(configs) == {"method": ["ldrld", "ldrld", "kd"], "lr": [0.1, 0.2, 0.1]}
    del configs[0]["accumulate"]
    assert differing_values(configs)["accumulate"] == [None, 1, 1]
