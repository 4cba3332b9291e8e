"""Settings of finished and unfinished runs: those that differ from the defaults, and those that differ between runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal, NamedTuple

from stillroom.config import DEFAULTS, SETTINGS, make_recipe
from stillroom.data import Augment
from stillroom.engine.resume_check import same_setting
from stillroom.errors import InputError
from stillroom.files import shown

PLACE = {"name", "runs"}  # where a run is, not what it is
DECISIVE = ("optimizer", "schedule", "epochs")  # other defaults follow from these
# A run finds these from its data, models and machine where they are not given. It does not record which were given.
AUTOMATIC = {"task", "image_size", "source", "mean", "std", "pad", "flip", "rotate", "min_scale", "bn_momentum",
             "precision"}  # fmt: skip
AUGMENT = {name: value for name, value in asdict(Augment()).items() if name not in AUTOMATIC}


class SettingRow(NamedTuple):
    """One setting of a run.

    Attributes:
        name: of the setting.
        value: of the run.
        default: of a run with the same models, data, optimizer, schedule and length; None for those in
            :data:`AUTOMATIC`.
    """

    name: str
    value: Any
    default: Any


def changed_settings(config: Mapping[str, Any]) -> list[SettingRow]:
    """The settings of a run that differ from their defaults; without models, method and data, which have none.

    Args:
        config: from :meth:`stillroom.engine.run_folder.RunFolder.config`.
    """
    usual = _defaults_for(config)
    rows = (SettingRow(name, config[name], usual[name]) for name in SETTINGS if name in config and name in usual)
    changed = [row for row in rows if row.name not in PLACE and not same_setting(row.name, row.value, row.default)]
    changed = [row._replace(default=AUGMENT.get(row.name, row.default)) for row in changed]
    return [row._replace(default=None) if row.name in AUTOMATIC else row for row in changed if row.value != row.default]


def value_text(value: Any) -> str:
    """A setting's value in one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return "not set" if value is None else shown(value)


def _defaults_for(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run for which only what has no default was given."""
    command: Literal["train", "distill"] = "train" if "model" in config else "distill"
    given = {name: config[name] for name in SETTINGS if name in config and name not in DEFAULTS}
    decisive = {name: config[name] for name in DECISIVE if name in config}
    usual = dict(DEFAULTS)
    with suppress(InputError):  # a run of another version
        usual |= make_recipe(command, given | decisive).flat() | {name: DEFAULTS[name] for name in decisive}
        decisive.pop("schedule", None)  # its own default follows from the optimizer
        usual["schedule"] = make_recipe(command, given | decisive).optim.schedule
    return {name: value for name, value in usual.items() if name not in given}


def differing_values(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The settings in which runs differ, each with the value of every run; None where a run has none.

    Args:
        configs: of the runs.
    """
    found = {}
    for name in SETTINGS:
        values = [config.get(name) for config in configs]
        if name not in PLACE and not all(same_setting(name, values[0], value) for value in values[1:]):
            found[name] = values
    return found
