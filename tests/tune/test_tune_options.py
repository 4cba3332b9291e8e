from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from stillroom.compare.grid import make_grid
from stillroom.compare.options import methods_of, models_of
from stillroom.errors import InputError
from stillroom.tune.rungs import budget_in_words
from stillroom.tune.tune_options import TuneOptions, compare_options, final_seeds


@pytest.mark.parametrize(("given", "seeds"), [(3, [1, 2, 3]), ("2", [1, 2]), ("5,4", [4, 5]), ([7], [7])])
def test_final_runs_have_other_seeds_than_the_trials(given, seeds):
    assert final_seeds(TuneOptions(teacher="t", student="s", seeds=given)) == seeds


@pytest.mark.parametrize("given", ["0,1", [0], 0, "many"])
def test_the_seed_of_the_trials_and_no_seeds_are_refused(given):
    with pytest.raises(InputError, match=f"seeds={'.*' if isinstance(given, list) else given}"):
        final_seeds(TuneOptions(teacher="t", student="s", seeds=given))


def test_the_comparison_has_the_same_pair_and_the_given_methods():
    options = TuneOptions(teacher="runs/a,b", student="s", methods="kd,dkd", jobs=3, reference="dkd")
    made = compare_options(options, methods={"KD": "0.9*kd"})
    assert (models_of(made, "teachers"), made.jobs, made.reference) == ({"runs/a,b": "runs/a,b"}, 3, "dkd")
    assert {label: method.text for label, method in methods_of(made).items()} == {"KD": "0.9*kd"}


TUNINGS = Path(__file__).parents[2] / "benchmarks" / "tunings"


@pytest.mark.parametrize("file", sorted(TUNINGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_measured_tunings_are_tunings(file):
    settings = yaml.safe_load(file.read_text("utf-8"))
    axes = {field.name for field in dataclasses.fields(TuneOptions)}
    own = {name: settings.pop(name) for name in axes & settings.keys()}
    options = TuneOptions(**own | {"teacher": "resnet8"})  # the run of the teacher is not here
    assert budget_in_words(options, settings["epochs"])
    grid = make_grid(compare_options(options), settings)
    assert len(grid.cells) == 1 + len(options.methods) * len(final_seeds(options))
