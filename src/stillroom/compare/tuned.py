"""Comparisons of tuned methods: what ``compare --tuned FOLDER`` takes from a finished tuning, and what it records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stillroom.compare.labels import is_same_model, own_name, short_label
from stillroom.compare.options import CompareOptions, labelled_methods
from stillroom.compare.run_length import at_length, method_at_length
from stillroom.config import COMMON, DEFAULTS, MAY_CHANGE, RemoteOptions, TeacherOptions
from stillroom.config_file import Arguments
from stillroom.engine.resume_check import same_setting
from stillroom.errors import InputError
from stillroom.recipes import with_recipe
from stillroom.report.comparison_file import NamedMethod, TunedMethod, named_method
from stillroom.report.tuning_file import NAME, read_tuning
from stillroom.report.tuning_record import Tuning
from stillroom.resolve_model import is_run
from stillroom.settings import settings_in

SHARED = settings_in(TeacherOptions, RemoteOptions, *COMMON)  # what all runs of a comparison have in common
OF_TRIALS = {"hold_out", "seed", "name", "runs"}  # settings of the trials that the final runs do not take over


def with_tuning(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a comparison, with those of the tuning that it names for what is not given.

    The methods are the tuning's winners by label, and those given beside them. The comparison lies in the tuning's
    folder, unless ``name`` or ``runs`` say otherwise.

    Args:
        given: settings of ``stillroom compare`` by name; without ``tuned`` they are returned as they are.

    Raises:
        InputError: there is no finished tuning in the folder, ``hold_out`` is given, or a method that is given has the
            label of a winner.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "tuned" not in given:
        return given
    tuning = finished_tuning(Path(given["tuned"]))
    if "hold_out" in given:
        raise InputError(f"hold_out={given['hold_out']}: leave it out; runs with tuned settings learn from all images")
    place = Path(given["tuned"])
    place = place if place.name == place.resolve().name else place.resolve()
    values: dict[str, Any] = {
        "teachers": tuning.teacher,
        "students": tuning.student,
        "name": place.name,
        "runs": str(place.parent),
        "epochs": _final_epochs(tuning),
    }
    values |= {name: value for name, value in tuning.settings.items() if name not in OF_TRIALS and value is not None}
    if given.get("epochs", values["epochs"]) != values["epochs"]:
        values = at_length(values, given["epochs"], values["epochs"])
    values |= given
    values["methods"] = _with_winners(tuning, given, values["epochs"])
    if "teachers" not in given and (values["name"], values["runs"]) != (place.name, str(place.parent)):
        own = place / own_name(short_label(tuning.teacher))  # the run of a teacher that the tuning has trained
        values["teachers"] = str(own) if is_run(own) and not is_run(tuning.teacher) else tuning.teacher
    return values


def arguments_with_tuning(arguments: Arguments) -> Arguments:
    """As :func:`with_tuning` for a command line; what the tuning adds counts as given by its file."""
    values = with_tuning(arguments.values)
    source = str(Path(arguments.values["tuned"]) / NAME)
    files = dict.fromkeys((name for name in values if name not in arguments.values), source) | arguments.files
    return replace(arguments, values=values, files=files)


def finished_tuning(folder: Path) -> Tuning:
    """Read a tuning that has winners.

    Raises:
        InputError: there is none, or the search has not ended.
    """
    tuning = read_tuning(folder)
    if tuning is None:
        raise InputError(f"tuned={folder}: it holds no {NAME}; give the folder of a finished `stillroom tune`")
    if not tuning.winners:
        raise InputError(f"tuned={folder}: the search has not ended; run the command of `stillroom tune` again first")
    return tuning


def _final_epochs(tuning: Tuning) -> int:
    """Epochs of a tuning's final runs, for which the winners' methods are written."""
    epochs: int = tuning.settings.get("epochs") or tuning.budget.rungs[-1]
    return epochs


def _winner_at(tuning: Tuning, label: str, epochs: int) -> NamedMethod:
    """The winner of a method in a run of so many epochs: a warm-up keeps its share of the schedule."""
    winner, whole = tuning.winners[label], _final_epochs(tuning)
    if epochs == whole:
        return winner.method
    settings = at_length(winner.settings, epochs, whole)
    return NamedMethod(method_at_length(winner.text, epochs, whole), {name: settings[name] for name in winner.settings})


def _with_winners(tuning: Tuning, given: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """The winners by label, then the methods that are given beside them."""
    methods = {label: _winner_at(tuning, label, epochs).content for label in tuning.winners}
    for label, content in labelled_methods(given["methods"]).items() if "methods" in given else ():
        if label in methods and content != methods[label] and named_method(content) != tuning.methods[label]:
            raise InputError(f"methods: {label}: the tuning has a method of this label; give this one another label")
        methods.setdefault(label, content)
    return methods


def tuned_entries(
    options: CompareOptions,
    folder: Path,
    methods: Mapping[str, NamedMethod],
    settings: Mapping[str, Any],
    models: Mapping[str, Mapping[str, str]],
) -> dict[str, TunedMethod]:
    """How the methods of a comparison were tuned, by label; those that were not tuned are left out.

    Args:
        options: name the tuning, if there is one.
        folder: of the comparison.
        methods: by label.
        settings: common to all runs.
        models: teachers and students by label.

    Raises:
        InputError: as for :func:`finished_tuning`.
    """
    if options.tuned is None:
        return {}
    tuning = finished_tuning(Path(options.tuned))
    other = _other_settings(tuning, settings) | _other_models(tuning, models)
    here = folder.resolve() == tuning.folder.resolve()
    return {
        label: TunedMethod(
            folder="." if here else options.tuned,
            trials=tuning.budget.trials,
            epochs=tuning.budget.epochs,
            hold_out=tuning.hold_out,
            other=other,
        )
        for label in tuning.winners
        if methods.get(label) == _winner_at(tuning, label, settings["epochs"])
    }


def _other_settings(tuning: Tuning, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings in which a comparison differs from the tuning, each with both values."""
    usual = {name: DEFAULTS.get(name) for name in SHARED if name not in MAY_CHANGE | OF_TRIALS | {"recipe"}}
    there, here = (
        usual | {name: value for name, value in given.items() if name in usual and value is not None}
        for given in (with_recipe(dict(tuning.settings), SHARED) | {"epochs": tuning.budget.rungs[-1]}, settings)
    )
    found = {name: (there[name], here[name]) for name in usual if not same_setting(name, there[name], here[name])}
    if "epochs" in found:
        found.pop("milestones", None)  # they follow the length
    return found


def _other_models(tuning: Tuning, models: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[Any, Any]]:
    """The axes that have models which the methods were not tuned with."""
    own = str(tuning.folder / own_name(short_label(tuning.teacher)))
    known = {"teacher": (tuning.teacher, own), "student": (tuning.student,)}
    found = {}
    for axis, names in known.items():
        given = models[f"{axis}s"].values()
        if not all(any(is_same_model(model, name) for name in names) for model in given):
            found[axis] = (names[0], ", ".join(given))
    return found
