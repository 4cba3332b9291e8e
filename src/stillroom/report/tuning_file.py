"""The files of a tuning in its folder: ``tuning.yaml`` and ``trials.jsonl``, with scores from the trials' runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, first_line
from stillroom.files import shown, write_text
from stillroom.reading import UnreadableError, read_json_lines, read_yaml
from stillroom.report.comparison_file import named_method
from stillroom.report.tuning_record import Budget, Trial, Tuning, Value, Winner, trial_folder
from stillroom.report.usable_runs import is_finite, last_score, unusable_reason
from stillroom.settings import as_kind

NAME, TRIALS = "tuning.yaml", "trials.jsonl"


def write_tuning(tuning: Tuning) -> None:
    """Write ``tuning.yaml``; trials are written by :func:`write_trials`.

    Raises:
        OSError: it cannot be written.
    """
    budget = tuning.budget
    content = {
        "teacher": tuning.teacher,
        "student": tuning.student,
        "methods": {label: method.content for label, method in tuning.methods.items()},
        "budget": {"trials": budget.trials, "rungs": list(budget.rungs), "quotas": list(budget.quotas)},
        "spaces": {label: {name: dict(r) for name, r in space.items()} for label, space in tuning.spaces.items()},
        "seed": tuning.seed,
        "hold_out": tuning.hold_out,
        "held_out_images": tuning.held_out_images,
        "search_teacher": tuning.search_teacher,
        "seen_by_teacher": tuning.seen_by_teacher,
        "settings": dict(tuning.settings),
        "winners": {
            label: {"method": one.method.content, "trial": one.trial, "score": one.score}
            for label, one in tuning.winners.items()
        },
    }
    write_text(tuning.folder / NAME, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def write_trials(folder: Path, trials: Iterable[Trial]) -> None:
    """Write ``trials.jsonl``, one line a trial; scores are not written, they are in the trials' run folders.

    Raises:
        OSError: it cannot be written.
    """
    rows = [
        {"method": t.method, "number": t.number, "values": dict(t.values)}
        | ({"problems": {str(epochs): text for epochs, text in t.problems.items()}} if t.problems else {})
        for t in trials
    ]
    write_text(folder / TRIALS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_tuning(folder: Path) -> Tuning | None:
    """Read the tuning in a folder; None where there is none.

    Raises:
        InputError: a file is damaged or holds something else, or a trial's run cannot be read.
    """
    content = _read(folder / NAME, read_yaml)
    if content is None:
        return None
    with _naming(folder / NAME):
        tuning = _tuning(folder, content)
    rows = _read(folder / TRIALS, read_json_lines) or []
    with _naming(folder / TRIALS):
        trials = [_trial(tuning, row) for row in rows]
        if len({(one.method, one.number) for one in trials}) < len(trials):
            raise InputError("it has a trial twice")
    return replace(tuning, trials=tuple(with_scores(tuning, trial) for trial in trials))


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """The content of a file; None where it does not exist."""
    try:
        content = read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); allow it") from error
    if content is None:
        raise UnreadableError(path, "it is empty")
    return content


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise UnreadableError(path, shown(str(error))) from error


def _tuning(folder: Path, content: object) -> Tuning:
    given = _mapping("its content", content)
    methods = {label: named_method(entry) for label, entry in _mapping("methods", given.get("methods")).items()}
    spaces = {
        label: {name: _mapping(f"{label}: {name}", one) for name, one in _mapping(label, space).items()}
        for label, space in _mapping("spaces", given.get("spaces")).items()
    }
    tuning = Tuning(
        folder=folder,
        teacher=_value(given, "teacher", str),
        student=_value(given, "student", str),
        methods=methods,
        budget=_budget(_mapping("budget", given.get("budget"))),
        spaces=spaces,
        seed=_value(given, "seed", int),
        hold_out=_value(given, "hold_out", float),
        held_out_images=_value(given, "held_out_images", int),
        search_teacher=_value(given, "search_teacher", str),
        seen_by_teacher=_value(given, "seen_by_teacher", int),
        settings=_mapping("settings", given.get("settings")),
    )
    winners = {
        label: _winner(_mapping(label, one)) for label, one in _mapping("winners", given.get("winners", {})).items()
    }
    if unknown := [label for label in (*winners, *spaces) if label not in methods]:
        raise InputError(f"{unknown[0]!r} is none of the methods {', '.join(methods)}")
    return replace(tuning, winners=winners)


def _budget(given: Mapping[str, Any]) -> Budget:
    budget = Budget(
        trials=_value(given, "trials", int),
        rungs=tuple(_value(given, "rungs", list[int])),
        quotas=tuple(_value(given, "quotas", list[int])),
    )
    for name, values in (("rungs", budget.rungs), ("quotas", budget.quotas[::-1])):
        if not values or min(values) < 1 or list(values) != sorted(values):
            raise InputError(f"{name}={list(getattr(budget, name))} is no list of counts in order")
    if len(budget.rungs) != len(budget.quotas) or budget.quotas[0] != budget.trials:
        raise InputError(
            f"quotas={list(budget.quotas)} do not fit the {len(budget.rungs)} rungs and {budget.trials} trials"
        )
    return budget


def _winner(given: Mapping[str, Any]) -> Winner:
    method = named_method(given.get("method", ""))
    return Winner(method.text, method.settings, _value(given, "trial", int), _value(given, "score", float))


def _trial(tuning: Tuning, content: object) -> Trial:
    given = _mapping("a line", content)
    method, number = _value(given, "method", str), _value(given, "number", int)
    if method not in tuning.methods or not 0 <= number < tuning.budget.trials:
        raise InputError(f"it has a trial {number} of {method!r}, which {NAME} does not know")
    values = _mapping("values", given.get("values"))
    if wrong := [name for name, value in values.items() if not isinstance(value, Value)]:
        raise InputError(f"{wrong[0]}={values[wrong[0]]!r} is no value of a parameter")
    problems = {}
    for epochs, text in _mapping("problems", given.get("problems", {})).items():
        problems[as_kind("problems", epochs, int, text=True)] = as_kind("problems", text, str)
    return Trial(method, number, values, problems=problems)


def with_scores(tuning: Tuning, trial: Trial) -> Trial:
    """A trial with the scores of its finished runs, and why a finished run has none."""
    scores, problems = {}, dict(trial.problems)
    for epochs in tuning.budget.rungs:
        run = RunFolder(trial_folder(tuning.folder, trial.method, trial.number, epochs))
        if not run.finished:
            continue
        try:
            run.summary()
        except InputError as error:
            raise InputError(f"{error}; remove {run.path}, and stillroom tune trains this trial again") from error
        score = last_score(run)
        if reason := unusable_reason(run):
            problems[epochs] = reason
        elif score is not None:
            scores[epochs] = score
    return replace(trial, scores=scores, problems=problems)


def _mapping(name: str, content: object) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{name}={content!r}: names with values are expected")
    return content


def _value(given: Mapping[str, Any], name: str, kind: Any) -> Any:
    if name not in given:
        raise InputError(f"it has no {name}")
    value = as_kind(name, given[name], kind)
    if kind in (int, float) and not (is_finite(value) and value >= 0):
        raise InputError(f"{name}={value}: a number of at least 0 is expected")
    return value
