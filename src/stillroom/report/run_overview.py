"""Run overview: what each run folder below some folders holds, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report.comparison_file import NAME
from stillroom.report.discovery import FoundRun, short_name
from stillroom.report.usable_runs import is_finite, last_score
from stillroom.resolve_model import is_run
from stillroom.runtime.folder_lock import is_held
from stillroom.scores import SCORES, Score, score_of, score_of_row
from stillroom.suggestions import suggest_path

COLUMNS = ("name", "method", "student", "data", "top1", "state", "date")
LAST_WRITTEN = ("summary.json", "metrics.jsonl", "config.yaml")


@dataclass(frozen=True)
class RunOverview:
    """One run in a few words.

    Attributes:
        run: its folder.
        name: path below the folder that was searched.
        method: its label; empty where the settings cannot be read.
        student: the trained model, likewise.
        data: the last part of its name, likewise.
        score: what it is compared by; accuracy where the settings cannot be read.
        value: the score after the last epoch in percent; None where there is none.
        state: finished, in use, "epoch 3 of 10", or unreadable.
        date: when the run was last written.
    """

    run: RunFolder
    name: str
    method: str
    student: str
    data: str
    score: Score
    value: float | None
    state: str
    date: datetime

    def key(self, column: str) -> Any:
        """What the list is sorted by: text from A to Z, the best score and the latest date first."""
        if column == "top1":
            return -1.0 if self.value is None else self.value
        return self.date if column == "date" else str(getattr(self, column)).casefold()


def list_runs(folders: Sequence[Path], sort: str = "date") -> list[RunOverview]:
    """The runs in folders, and in the comparisons in them.

    Args:
        folders: to search, or run folders.
        sort: one of :data:`COLUMNS`.

    Raises:
        InputError: a folder does not exist, or there is no run at all.
    """
    found: dict[Path, RunOverview] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: there is no such folder{suggest_path(folder, Path.is_dir)}")
        for path in find_runs(folder):
            name = path.absolute().name if path == folder else str(path.relative_to(folder))
            found.setdefault(path.resolve(), overview_of(path, name))
    if not found:
        raise InputError(f"{', '.join(map(str, folders))}: there are no runs")
    return sorted(found.values(), key=lambda one: one.key(sort), reverse=sort in ("top1", "date"))


def find_runs(folder: Path) -> list[Path]:
    """The folder if it is a run, else the runs directly in it and in the comparisons in it, in order."""
    if is_run(folder):
        return [folder]
    found: list[Path] = []
    with suppress(OSError):
        for child in sorted(folder.iterdir()):
            if is_run(child):
                found.append(child)
            elif (child / NAME).is_file():
                found += [run for run in sorted(child.iterdir()) if is_run(run)]
    return found


def overview_of(path: Path, name: str = "") -> RunOverview:
    """What one run folder holds.

    Args:
        path: of the run.
        name: in the list; the folder's own by default.
    """
    run = RunFolder(path)
    written = next((path / file for file in LAST_WRITTEN if (path / file).exists()), path)
    date = datetime.fromtimestamp(written.stat().st_mtime)
    words, state, score = ("", "", ""), "unreadable", SCORES["classification"]
    with suppress(InputError):
        known = FoundRun(run)
        words = known.method, short_name(known.student), known.data_name
        score = score_of(known.config)
        state = state_of(run)
    return RunOverview(run, name or path.name, *words, score, latest_score(run), state, date)


def state_of(run: RunFolder) -> str:
    """Finished, in use, or how many epochs are done.

    Raises:
        InputError: its files cannot be read.
    """
    if is_held(run.path / ".lock"):
        return "in use"
    if run.finished:
        return "finished"
    done = len(run.epochs()) if (run.path / "metrics.jsonl").exists() else 0
    return f"epoch {done} of {run.config()['epochs']}"


def latest_score(run: RunFolder) -> float | None:
    """The main score after the last finished epoch in percent; None where there is none."""
    if run.finished:
        return last_score(run)
    with suppress(InputError):
        rows = run.epochs()
        value: Any = rows[-1].get(score_of_row(rows[-1]).column) if rows else None
        return float(value) if is_finite(value) else None
    return None
