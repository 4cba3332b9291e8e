"""The run folder: the record of a run, and all that reports, comparisons and exports read."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from stillroom.engine.resume_check import refuse_other
from stillroom.engine.run_schema import config_of, environment_of, joined, row_of, summary_of
from stillroom.errors import InputError, first_line
from stillroom.files import (
    ABANDONED_SECONDS,
    is_temporary,
    make_folder,
    remove_temporary_files,
    write_failure,
    write_text,
)
from stillroom.formatting import size_in_words
from stillroom.models import save_weights
from stillroom.reading import read_json, read_json_lines, read_yaml
from stillroom.runtime.environment import environment
from stillroom.runtime.folder_lock import locked
from stillroom.scores import score_of
from stillroom.trust import NOTHING, Trust


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by their names.

    Attributes:
        path: the folder.
        trust: what is permitted for the models and methods that its files name; without it, nothing.
    """

    path: Path
    trust: Trust = field(default=NOTHING, compare=False, repr=False)

    @property
    def last(self) -> Path:
        """The full state after the latest saved step, from which a run continues."""
        return self.path / "checkpoint" / "last.pt"

    @property
    def best(self) -> Path:
        """The student's weights at the best of the epochs that the checkpoint covers."""
        return self.path / "checkpoint" / "best.safetensors"

    @property
    def candidate(self) -> Path:
        """The student's weights at a better epoch, until a checkpoint covers it."""
        return self.path / "checkpoint" / "candidate.safetensors"

    @property
    def student(self) -> Path:
        """The finished student's weights."""
        return self.path / "student.safetensors"

    @property
    def predictions(self) -> Path:
        """The finished student's predictions on the validation images."""
        return self.path / score_of(self.config()).file

    def config(self) -> dict[str, Any]:
        """The resolved settings and the run's inputs: images, classes, the teacher's fingerprint.

        Raises:
            InputError: a file is missing or damaged, or a value is of the wrong kind; the same for other files.
        """
        files = ((self.path / "config.yaml", read_yaml), (self.path / "inputs.json", read_json))
        return joined(self.path, *(config_of(path, _read_mapping(path, read)) for path, read in files))

    def summary(self) -> dict[str, Any]:
        """The numbers of the finished run.

        Raises:
            InputError: if the run is not finished.
        """
        path = self.path / "summary.json"
        return summary_of(path, _read_mapping(path))

    def environment(self) -> dict[str, Any]:
        """Versions, machine and code state at its first start; empty where they cannot be read."""
        with suppress(OSError, InputError):
            return environment_of(read_json(self.path / "environment.json"))
        return {}

    def epochs(self) -> list[dict[str, Any]]:
        """One row of numbers an epoch, in order.

        Raises:
            InputError: the file is missing, damaged or cut short.
        """
        path = self.path / "metrics.jsonl"
        return [row_of(path, row) for row in _read(path, read_json_lines)]

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return (self.path / "summary.json").exists()

    @property
    def complete(self) -> bool:
        """Whether the run is finished and has its predictions, which runs of earlier versions lack."""
        return self.finished and self.predictions.exists()

    def write_epochs(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows of all epochs so far; after a resume no row is lost or doubled.

        Raises:
            InputError: it cannot be written, for example on a full disk; as for the other files.
        """
        _write(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_candidate(self, student: nn.Module) -> None:
        """Write the weights of the best epoch so far, aside."""
        _write_weights(self.candidate, student, {})

    def write_student(self, student: nn.Module) -> None:
        """Write the finished student, with the run's settings in its header."""
        _write_weights(self.student, student, {key: str(value) for key, value in self.config().items()})

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the last file of a run, whose presence marks the run as finished."""
        _write(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder against other processes, and remove half-written files of killed ones.

        The lock ends with this process, however it ends. On disks without locks there is none.

        Raises:
            InputError: another process has the lock.
        """
        with locked(self.path / ".lock") as alone:
            for folder in (self.path, self.path / "checkpoint"):
                with suppress(OSError):  # not there yet
                    remove_temporary_files(folder.iterdir(), None if alone else ABANDONED_SECONDS)
            yield


def trained_model(config: Mapping[str, Any]) -> str:
    """The name of the model that a run trains: the model of a training run, else the student.

    Args:
        config: from :meth:`RunFolder.config`.
    """
    return str(config["model"] if "model" in config else config["student"])


def open_run(
    path: Path, settings: dict[str, Any], inputs: dict[str, Any], needed_bytes: int, *, first: bool = True
) -> RunFolder:
    """Make a run folder, or open one with the same configuration.

    Args:
        path: the folder.
        settings: the resolved recipe, plain values; ``config.yaml`` can be handed to ``--config`` again.
        inputs: what else decides the result, plain values.
        needed_bytes: size of checkpoints and student.
        first: whether this process writes the folder; modules handed to other processes are not compared.

    Raises:
        InputError: if the folder holds another run, one that cannot be compared, or foreign files, cannot be written,
            or the disk is too full.
    """
    run = RunFolder(path)
    if not (path / "config.yaml").exists() and path.exists() and not (path.is_dir() and is_ours_to_begin(path)):
        raise InputError(f"run folder {path} holds other files; nothing is overwritten, give another name=")
    try:
        make_folder(path)
        begun = False
        if not (path / "config.yaml").exists():
            with run.held():  # of several processes that begin it at once, one does
                begun = _begin(run, settings, inputs, needed_bytes)
        if not begun:
            refuse_other(path, run.config(), settings | inputs, first=first)
        if not run.finished:
            require_room(run, needed_bytes)
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
    except OSError as error:
        raise InputError(
            f"run folder {path} cannot be written ({error.strerror}); choose another runs= folder"
        ) from error
    return run


def _begin(run: RunFolder, settings: dict[str, Any], inputs: dict[str, Any], needed_bytes: int) -> bool:
    """Write settings, inputs and environment, ``config.yaml`` last; return whether this process did it."""
    if (run.path / "config.yaml").exists():
        return False
    require_room(run, needed_bytes)
    run.last.parent.mkdir(exist_ok=True)
    write_text(run.path / "environment.json", json.dumps(environment(), indent=2) + "\n")
    write_text(run.path / "inputs.json", json.dumps(inputs, indent=2, ensure_ascii=False) + "\n")
    write_text(run.path / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    return True


def is_ours_to_begin(path: Path) -> bool:
    """Whether a folder is empty, but for files of an earlier start that did not get as far as ``config.yaml``."""
    names = {entry.name for entry in path.iterdir()}
    names = {name for name in names if name != ".lock" and not is_temporary(name)}
    if "checkpoint" in names and (path / "checkpoint").is_dir() and not any((path / "checkpoint").iterdir()):
        names.remove("checkpoint")
    if not names or "config.yaml" in names:  # by another process, just now
        return True
    if not names <= {"environment.json", "inputs.json"}:
        return False
    with suppress(OSError, ValueError, LookupError, TypeError):
        return "stillroom" in read_json(path / "environment.json")["versions"]
    return False


def require_room(run: RunFolder, needed_bytes: int) -> None:
    """Refuse a run whose files do not fit onto the disk. Its folder need not exist.

    Raises:
        InputError: the disk is too full.
    """
    needed_bytes -= sum(file.stat().st_size for file in (run.last, run.best, run.student) if file.exists())
    there = next(place for place in (run.path, *run.path.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise InputError(
            f"run folder {run.path}: checkpoints need {size_in_words(needed_bytes, up=True)}, {size_in_words(free)} "
            "are free; make room or choose another runs= folder"
        )


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise write_failure(path, error, len(text.encode())) from error


def _write_weights(path: Path, model: nn.Module, header: dict[str, str]) -> None:
    try:
        save_weights(model, path, header)
    except OSError as error:
        weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
        # Beside each tensor its name, type and place, about 100 bytes.
        needed = weights + 100 * len(model.state_dict()) + len(str(header).encode())
        raise write_failure(path, error, needed) from error


def _read_mapping(path: Path, read: Callable[[Path], Any] = read_json) -> dict[str, Any]:
    content = _read(path, read)
    if not isinstance(content, dict):
        raise InputError(f"{path} cannot be read (it holds a {type(content).__name__} and not names with values)")
    return content


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: is {path.parent} a finished run folder?") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)})") from error
