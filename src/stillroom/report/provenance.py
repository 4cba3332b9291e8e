"""Provenance of a comparison: settings, machine, versions, commands."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.config import AXES, MAY_CHANGE, PER_METHOD, SETTINGS
from stillroom.engine.run_folder import trained_model
from stillroom.engine.run_schema import INPUTS
from stillroom.formatting import counted
from stillroom.report.aggregate import Pair

# Shown elsewhere on the page, or no part of a result.
ELSEWHERE = AXES | MAY_CHANGE | INPUTS.keys() - SETTINGS.keys() - {"device"}


@dataclass(frozen=True)
class Provenance:
    """How the runs of one pair were made.

    Attributes:
        data: in a sentence.
        models: teacher and student as the runs name them.
        schedule: in a sentence.
        tuning: whether the methods were tuned, in a sentence; empty where the verdict says it.
        methods: the text of each method by its label.
        common: settings that are the same in all runs.
        differing: the other settings, with each value and the methods or runs that have it.
        machines: device and system of the runs.
        versions: of the packages.
        commands: that made the runs.
    """

    data: str
    models: dict[str, str]
    schedule: str
    tuning: str
    methods: dict[str, str]
    common: dict[str, str]
    differing: dict[str, str]
    machines: list[str]
    versions: list[str]
    commands: list[str]


def provenance_of(pair: Pair) -> Provenance:
    """Gather from the run folders of a pair, and its teacher's, how they were made."""
    runs = [*([pair.teacher_run] if pair.teacher_run else []), *(cell.run for cell in pair.cells)]
    environments = [run.environment() for run in runs]
    configs = {cell.run.path.name: cell.run.config() for cell in pair.cells}
    common, differing = _compared(pair, configs)
    first = configs[pair.cells[0].run.path.name]
    return Provenance(
        data=(
            f"{first['data']}: {counted(len(first['classes']), 'class')}, {first['train_images']:,} training and "
            f"{first['val_images']:,} validation images"
        ),
        models=_models(pair),
        schedule=(
            f"{counted(first['epochs'], 'epoch')} of batch {first['batch_size']}, {_all(configs, 'optimizer')}, "
            f"peak learning rate {_all(configs, 'lr')}, {_all(configs, 'schedule')}, "
            f"weight decay {_all(configs, 'weight_decay')}, seeds "
            + ", ".join(map(str, sorted({cell.seed for cell in pair.cells})))
        ),
        tuning="" if pair.tuned else "none: each method has the settings that it was given",
        methods={method: str(pair.runs(method)[0].run.config().get("method", "ce")) for method in pair.methods},
        common=common,
        differing=differing,
        machines=_distinct(_machine(found) for found in environments),
        versions=_distinct(_versions(found) for found in environments),
        commands=_distinct(command_text(found) for found in environments),
    )


def differing_settings(pair: Pair) -> list[str]:
    """Settings of optimizer and augmentation in which methods differ, as in "lr is 0.05, but 0.01 for “slow”".

    Tuned methods are left out: each has its own.
    """
    methods = [method for method in pair.methods if method not in pair.tuned]
    configs = {method: [cell.run.config() for cell in pair.runs(method)] for method in methods}
    if not configs:
        return []
    found = []
    for name in PER_METHOD:
        having: dict[str, list[str]] = {}
        for method, of_seeds in configs.items():
            values = dict.fromkeys(_text(config.get(name)) for config in of_seeds)
            having.setdefault(" or ".join(values), []).append(f"“{method}”")
        usual = max(having, key=lambda value: len(having[value]))
        others = [f"{value} for {', '.join(methods)}" for value, methods in having.items() if value != usual]
        if others:
            found.append(f"{name} is {usual}, but {' and '.join(others)}")
    return found


def _models(pair: Pair) -> dict[str, str]:
    """The models as the runs name them; for a teacher that was a run folder, the model of that run."""
    config = next((c for c in (cell.run.config() for cell in pair.cells) if c.get("teacher")), {})
    student = pair.cells[0].run.config()
    models = {}
    if config.get("teacher"):
        trained = pair.teacher_run.config().get("model", "") if pair.teacher_run else ""
        models["teacher"] = f"{trained}, run {Path(config['teacher']).name}" if trained else str(config["teacher"])
    return models | {"student": trained_model(student)}


def _all(configs: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """The values of a setting in all runs, as in "0.05 or 0.01"."""
    return " or ".join(dict.fromkeys(_text(config[name]) for config in configs.values()))


def _compared(pair: Pair, configs: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Settings that are the same in all runs, and the others with each value and the methods or runs that have it."""
    names = [
        name for name in dict.fromkeys(key for config in configs.values() for key in config) if name not in ELSEWHERE
    ]
    common, differing = {}, {}
    for name in names:
        having: dict[str, list[str]] = {}
        for run, config in configs.items():
            if name in config:
                having.setdefault(_text(config[name]), []).append(run)
        if len(having) == 1:
            common[name] = next(iter(having))
        else:
            differing[name] = "; ".join(f"{value} in {_whose(pair, runs)}" for value, runs in having.items())
    return common, differing


def _whose(pair: Pair, runs: Collection[str]) -> str:
    """Runs by their names, or by their methods where these are all runs of them."""
    methods = [m for m in pair.methods if any(cell.run.path.name in runs for cell in pair.runs(m))]
    whole = all(cell.run.path.name in runs for method in methods for cell in pair.runs(method))
    return ", ".join([f"“{method}”" for method in methods] if whole else runs)


def _text(value: object) -> str:
    """The value of a setting in words."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _machine(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    device = found.get("gpu") or f"CPU ({found.get('cpu')}, {_threads(found.get('threads'))})"
    return f"{device}; {found.get('platform')}"


def _threads(count: object) -> str:
    return counted(count, "thread") if isinstance(count, int) else "threads unknown"


def _versions(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    named = ", ".join(f"{name} {version}" for name, version in found.get("versions", {}).items())
    return f"{named}; Python {found.get('python')}" + (f"; git {found['git']}" if found.get("git") else "")


def command_text(found: Mapping[str, Any]) -> str:
    """The command that made a run, for the shell; empty where it is not known.

    Args:
        found: from :meth:`stillroom.engine.run_folder.RunFolder.environment`.
    """
    command = [str(word) for word in found.get("command") or []]
    if not command:
        return ""
    # However it was started, this is the command for the shell.
    ours = Path(command[0]).stem in ("cli", "stillroom", "__main__")
    return shlex.join(["stillroom", *command[1:]] if ours else command)


def _distinct(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
