"""Remove run folders, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stillroom.config import RunOptions
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import NAME as SAMPLES
from stillroom.errors import InputError, InUse
from stillroom.files import first_few, is_temporary
from stillroom.loggers.logger import IDS
from stillroom.prepare.name_checks import check_run
from stillroom.report.comparison_file import NAME as COMPARISON
from stillroom.report.probe_record import LOCK
from stillroom.report.probe_record import NAME as PROBES
from stillroom.report.run_overview import find_runs
from stillroom.restore import teacher_run_of
from stillroom.runtime.folder_lock import is_held
from stillroom.scores import SCORES
from stillroom.teachers.ensemble_file import read_ensemble
from stillroom.teachers.teacher_kind import teacher_kind

CONFIG = "config.yaml"
NETWORKS = ("model", "student", "teacher", "checkpoint", "student_checkpoint", "teacher_checkpoint")
WRITTEN = {  # what Stillroom writes into a run folder
    CONFIG, "inputs.json", "environment.json", "metrics.jsonl", "summary.json", "student.safetensors",
    *(score.file for score in SCORES.values()), SAMPLES, "checkpoint", ".lock", IDS, "tensorboard", "wandb",
    "export", "index.html", PROBES, LOCK,
}  # fmt: skip


def check_removal(paths: Sequence[Path], *, force: bool) -> None:
    """Refuse to remove what is no run, is in use, or is needed.

    Args:
        paths: the folders that would be removed.
        force: permits runs that other runs need, and files that Stillroom did not write.

    Raises:
        InputError: naming the folder and the reason; nothing was removed.
    """
    for path in paths:
        check_run("", path)
        if path.is_symlink():
            raise InputError(f"{path} is a link; remove the link itself, or give the folder that it leads to")
        if is_held(path / ".lock"):
            raise InUse(f"{path} is in use: a process is at work on this run; wait for it or stop it")
        if force:
            continue
        if foreign := sorted(e.name for e in path.iterdir() if e.name not in WRITTEN and not is_temporary(e.name)):
            raise InputError(
                f"{path} holds files that Stillroom did not write ({first_few(foreign)}); move them, or give --force"
            )
        if users := users_of(path, paths):
            raise InputError(
                f"{path} is the teacher or the beginning of {first_few([str(user) for user in users])}, which could "
                "not be continued or reported in full; remove these too, or give --force"
            )


def users_of(path: Path, removed: Sequence[Path] = ()) -> list[Path]:
    """The runs that need a run, as teacher or for the weights that they began with.

    They are looked for beside it, in the comparisons there, and in the default folder of runs.

    Args:
        path: of the run that is needed.
        removed: runs that do not count.
    """
    beside = path.absolute().parent
    places = [beside, *([beside.parent] if (beside / COMPARISON).is_file() else []), Path(RunOptions.runs)]
    gone = {one.resolve() for one in (path, *removed)}
    found: dict[Path, Path] = {}
    for run in (run for place in places for run in find_runs(place) if run.resolve() not in gone):
        with suppress(InputError):
            if any(place.is_relative_to(path.resolve()) for place in _needed_by(RunFolder(run))):
                found.setdefault(run.resolve(), run)
    return list(found.values())


def _needed_by(run: RunFolder) -> list[Path]:
    """The runs and files that a run takes networks from."""
    config = run.config()
    found = [Path(config[name]) for name in NETWORKS if config.get(name)]
    if (teacher := teacher_run_of(run)) is not None:  # also one that was moved
        found.append(teacher.path)
    with suppress(InputError):
        if teacher_kind(str(config.get("teacher"))) == "several":
            for entry in read_ensemble(config["teacher"]).teachers:
                found += [Path(name) for name in (entry.teacher, entry.checkpoint) if name]
    return [place.resolve() for place in found if place.exists()]


def remove_run(path: Path) -> None:
    """Remove a run folder. ``config.yaml`` goes last, so that a removal that is killed can be repeated.

    Raises:
        InUse: a process has begun to work on it.
        OSError: a file cannot be removed.
    """
    with RunFolder(path).held():
        for entry in path.iterdir():
            if entry.name in (CONFIG, ".lock"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (path / CONFIG).unlink()
    path.absolute().rmdir()


def folder_bytes(path: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
