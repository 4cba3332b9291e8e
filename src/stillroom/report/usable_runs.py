"""Runs whose numbers cannot be used: how they are recognised and named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.scores import score_of_row


@dataclass(frozen=True)
class LeftOut:
    """A finished run that no number includes.

    Attributes:
        name: of its folder.
        why: in words that follow "it is left out:".
        method: the label of its method; empty where its settings cannot be read.
        seed: of the run; None as for method.
        score: the main score after its last epoch, in percent; None where there is none worth reading.
    """

    name: str
    why: str
    method: str = ""
    seed: int | None = None
    score: float | None = None

    @property
    def sentence(self) -> str:
        """As in "kd with seed 1 (kd-s1) is left out of all numbers: it diverged"."""
        whose = f"{self.method} with seed {self.seed} ({self.name})" if self.method else self.name
        return f"{whose} is left out of all numbers: {self.why}"


def unusable_reason(run: RunFolder) -> str:
    """Why the numbers of a finished run cannot be used; empty where they can."""
    try:
        summary, rows = run.summary(), run.epochs()
    except InputError as error:
        return f"{error}; remove summary.json there and run its command again, which writes both anew"
    if not rows:
        return f"{run.path / 'metrics.jsonl'} holds no epoch"
    if reason := unmeasured_reason(summary):
        return reason
    for row in (rows[-1], summary.get("last")):
        if isinstance(row, Mapping) and (bad := _not_finite(row)):
            return f"it diverged ({bad} after the last epoch)"
    column = score_of_row(rows[-1]).column
    for where, name in (("last", column), ("best", column), ("", "parameters"), ("", "seconds")):
        value = _at(summary, where, name)
        if not is_finite(value):
            return f"{run.path / 'summary.json'} has no {where} {name}".replace("  ", " ")
    return ""


def unmeasured_reason(summary: Mapping[str, Any]) -> str:
    """Why a run has no main score although it did not diverge; empty where it has one."""
    names = ("val_top1", "val_loss", "agreement")
    last = summary.get("last")
    if isinstance(last, Mapping) and not (score := score_of_row(last)).per_image:
        measured = last[score.column] is not None or not is_finite(last.get("loss", 0.0))
        return "" if measured else f"its validation images have no annotated objects: {score.name} was not measured"
    if not isinstance(last, Mapping) or any(name not in last for name in names) or last["val_loss"] is not None:
        return ""
    if is_finite(last["agreement"]):
        return (
            "its validation images have no labels, so that accuracy was not measured; agreement with the teacher after "
            f"the last epoch is {last['agreement']:.2f} %"
        )
    return "no loss trained its classifier, or its validation images have no labels: accuracy was not measured"


def last_score(run: RunFolder) -> float | None:
    """The main score after a finished run's last epoch in percent, if it has a readable one."""
    try:
        last = run.summary().get("last")
    except InputError:
        return None
    value: Any = last.get(score_of_row(last).column) if isinstance(last, Mapping) else None
    return float(value) if is_finite(value) else None


def _at(summary: Mapping[str, Any], where: str, name: str) -> Any:
    row = summary.get(where) if where else summary
    return row.get(name) if isinstance(row, Mapping) else None


def _not_finite(row: Mapping[str, Any]) -> str:
    """The first number that is not finite in a run that diverged, in words."""
    decisive = ("loss", "val_loss", score_of_row(row).column)
    return next((f"{name} is {row[name]}" for name in decisive if name in row and not is_finite(row[name])), "")


def is_finite(value: object) -> bool:
    """Whether a value that was read from a record is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
