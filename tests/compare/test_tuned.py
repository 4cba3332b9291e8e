from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from stillroom.compare.grid import make_grid
from stillroom.compare.grid_record import joined_record, write_record
from stillroom.compare.options import CompareOptions
from stillroom.compare.tuned import arguments_with_tuning, with_tuning
from stillroom.config_file import Arguments
from stillroom.errors import InputError
from stillroom.report.comparison_file import NamedMethod, TunedMethod, read_description
from stillroom.report.tuning_file import write_tuning
from stillroom.report.tuning_record import Winner
from stillroom.settings import make_group, settings_in
from tests.report.tunings import made_tuning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished tuning; nothing may be written there."""
    return made_tuning(tmp_path_factory.mktemp("runs") / "search").folder


def grid_of(values):
    """The grid as the command line makes it."""
    own = settings_in(CompareOptions)
    common = {name: value for name, value in values.items() if name not in own}
    return make_grid(make_group(CompareOptions, values), common)


def recorded(values):
    """How each method of a grid was tuned, read from the file that the grid writes."""
    grid = grid_of(values)
    write_record(grid.folder, grid.record)
    return read_description(grid.folder).tuned


def test_without_a_tuning_the_settings_are_those_given(tmp_path):
    assert with_tuning({"teachers": "resnet56", "lr": None}) == {"teachers": "resnet56"}
    grid = grid_of({"teachers": "resnet56", "students": "resnet20", "data": "glyphs100", "runs": str(tmp_path)})
    assert grid.record["tuned"] == {}
    write_record(grid.folder, grid.record)
    assert "tuned" not in yaml.safe_load((grid.folder / "comparison.yaml").read_text())


def test_the_winners_are_compared_in_the_tunings_folder_with_seeds_that_no_trial_had(folder):
    grid = grid_of(with_tuning({"tuned": str(folder)}))
    assert grid.folder == folder
    students = [cell for cell in grid.cells if cell.command == "distill"]
    assert [(cell.method, cell.settings["seed"]) for cell in students] == [
        (label, seed) for seed in (1, 2, 3) for label in ("KD", "LDRLD")
    ]
    recipe = students[0].recipe
    assert (recipe.models.student, recipe.models.method, recipe.data.data) == (
        "resnet20",
        "kd(temperature=3)",
        "glyphs100",
    )
    assert (recipe.optim.lr, recipe.optim.milestones, recipe.run.epochs) == (0.1, [3, 5], 6)
    entry = TunedMethod(".", trials=4, epochs=4 * 2 + 6, hold_out=0.1)
    assert dict.fromkeys(("KD", "LDRLD"), entry.content) == grid.record["tuned"]
    assert joined_record(grid) == grid.record, "a tuning's own files do not make its folder a foreign one"


def test_methods_given_beside_are_untuned_and_what_differs_from_the_tuning_is_recorded(folder, tmp_path):
    given = {"tuned": str(folder), "runs": str(tmp_path), "methods": "LDRLD,at,KD", "epochs": 12, "lr": 0.3, "seeds": 2}
    values = with_tuning({**given, "methods": {"AT": "at", "LDRLD": "ldrld"}})
    assert list(values["methods"]) == ["KD", "LDRLD", "AT"]
    assert values["milestones"] == [6, 10], "they keep their place in the schedule"
    tuned = recorded(values)
    assert set(tuned) == {"KD", "LDRLD"}
    assert tuned["KD"].folder == str(folder)
    assert tuned["KD"].other == {"epochs": (6, 12), "lr": (None, 0.3)}
    assert {cell.settings["seed"] for cell in grid_of(values).cells if cell.command == "distill"} == {1, 2}


def test_in_a_run_of_another_length_a_winner_keeps_the_share_of_its_warm_up_and_counts_as_tuned(tmp_path):
    tuning = made_tuning(tmp_path / "search")
    winner = Winner("ldrld(depth=6, warmup=2)", {"lr": 0.2}, 2, 56.5)
    write_tuning(replace(tuning, winners={**tuning.winners, "LDRLD": winner}))
    values = with_tuning({"tuned": str(tuning.folder), "runs": str(tmp_path), "name": "longer", "epochs": 12})
    assert values["methods"]["LDRLD"] == {"method": "ldrld(depth=6, warmup=4)", "lr": 0.2}
    assert set(recorded(values)) == {"KD", "LDRLD"}


def test_other_models_than_the_tunings_are_recorded(folder, tmp_path):
    tuned = recorded(with_tuning({"tuned": str(folder), "runs": str(tmp_path), "students": "resnet20,resnet8"}))
    assert tuned["KD"].other == {"student": ("resnet20", "resnet20, resnet8")}


def test_a_later_call_without_the_tuning_keeps_what_is_known_of_it(folder, tmp_path):
    values = with_tuning({"tuned": str(folder), "runs": str(tmp_path)})
    first = grid_of(values)
    write_record(first.folder, first.record)
    later = grid_of({name: value for name, value in values.items() if name != "tuned"} | {"methods": {"AT": "at"}})
    assert set(joined_record(later)["tuned"]) == {"KD", "LDRLD"}
    assert list(joined_record(later)["methods"]) == ["KD", "LDRLD", "AT"]


def test_the_winners_join_a_comparison_that_was_begun_by_hand(folder, tmp_path):
    place = {"runs": str(tmp_path), "name": "by-hand"}
    values = with_tuning({"tuned": str(folder), **place})
    own = {"methods": {"AT": "at"}, "task": "auto"}  # as the command line gives it
    by_hand = grid_of({name: value for name, value in values.items() if name != "tuned"} | own)
    write_record(by_hand.folder, by_hand.record)
    assert list(joined_record(grid_of(values))["methods"]) == ["AT", "KD", "LDRLD"]


def test_a_comparison_elsewhere_uses_the_teacher_that_the_tuning_has_trained(tmp_path):
    tuning = made_tuning(tmp_path / "search")
    own = tuning.folder / "resnet56-s0"
    own.mkdir()
    (own / "config.yaml").write_text("model: resnet56")
    (own / "inputs.json").write_text("{}")
    assert with_tuning({"tuned": str(tuning.folder)})["teachers"] == "resnet56"
    values = with_tuning({"tuned": str(tuning.folder), "name": "elsewhere"})
    assert values["teachers"] == str(own)
    assert recorded(values)["KD"].other == {}


def test_a_method_of_the_same_label_is_refused_unless_it_is_the_same(folder):
    assert with_tuning({"tuned": str(folder), "methods": {"KD": "kd"}})["methods"]["KD"] == {
        "method": "kd(temperature=3)", "lr": 0.1,
    }  # fmt: skip
    with pytest.raises(InputError, match="methods: KD: the tuning has a method of this label"):
        with_tuning({"tuned": str(folder), "methods": {"KD": "dkd"}})


def test_what_is_no_finished_tuning_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"hold_out=0\.1: leave it out"):
        with_tuning({"tuned": str(folder), "hold_out": 0.1})
    with pytest.raises(InputError, match=r"tuned=.*holds no tuning.yaml"):
        with_tuning({"tuned": str(tmp_path)})
    made_tuning(tmp_path / "search", ended=False)
    with pytest.raises(InputError, match="the search has not ended"):
        with_tuning({"tuned": str(tmp_path / "search")})


def test_a_label_whose_text_is_not_the_winners_is_not_called_tuned(folder, tmp_path):
    values = with_tuning({"tuned": str(folder), "runs": str(tmp_path)})
    values["methods"] = {"KD": "kd", "LDRLD": values["methods"]["LDRLD"]}
    assert set(recorded(values)) == {"LDRLD"}
    assert NamedMethod("ldrld(depth=6)", {"lr": 0.2}).content == values["methods"]["LDRLD"]


def test_names_that_a_tuning_brings_count_as_given_by_its_file(folder):
    found = arguments_with_tuning(Arguments({"tuned": str(folder), "students": "mine:net", "seeds": 2}))
    assert {found.files[name] for name in ("teachers", "methods", "data")} == {str(folder / "tuning.yaml")}
    assert not {"tuned", "students", "seeds"} & found.files.keys()
