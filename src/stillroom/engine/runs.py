"""A run folder is the record of a run; everything downstream reads only it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml

from stillroom.errors import InputError
from stillroom.files import write_text


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, by their names.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def last(self) -> Path:
        """The full state after the latest saved step, to go on from."""
        return self.path / "checkpoint" / "last.pt"

    @property
    def best(self) -> Path:
        """The student's weights at its best epoch."""
        return self.path / "checkpoint" / "best.safetensors"

    @property
    def student(self) -> Path:
        """The finished student's weights."""
        return self.path / "student.safetensors"

    def config(self) -> dict[str, Any]:
        """The resolved settings and what the run was fed with: pictures, classes, the teacher's fingerprint."""
        settings: dict[str, Any] = _read(self.path / "config.yaml", yaml.safe_load)
        inputs: dict[str, Any] = _read(self.path / "inputs.json", json.loads)
        return settings | inputs

    def summary(self) -> dict[str, Any]:
        """The finished run in numbers.

        Raises:
            InputError: if the run is not finished.
        """
        summary: dict[str, Any] = _read(self.path / "summary.json", json.loads)
        return summary

    def epochs(self) -> list[dict[str, Any]]:
        """One row of numbers an epoch, in order."""
        text: str = _read(self.path / "metrics.jsonl", str)
        return [json.loads(line) for line in text.splitlines()]

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "summary.json").exists()

    def write_epochs(self, rows: list[dict[str, Any]]) -> None:
        """Write the rows of all epochs so far; after a resume no row is lost or doubled."""
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write the last file of a run: its presence says that the run is finished."""
        write_text(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")


def open_run(path: Path, settings: dict[str, Any], inputs: dict[str, Any], needed_bytes: int) -> RunFolder:
    """Make a run folder, or come back to one whose configuration is the same.

    Args:
        path: the folder.
        settings: the resolved recipe, plain values; ``config.yaml`` can be handed to ``--config`` again.
        inputs: what else decides the result, plain values.
        needed_bytes: what checkpoints and student will take.

    Raises:
        InputError: if the folder holds another run or foreign files, cannot be written, or the disk is too full.
    """
    run = RunFolder(path)
    if (path / "config.yaml").exists():
        _refuse_other(path, run.config(), settings | inputs)
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"run folder {path} holds other files; nothing is overwritten, give another name=")
    try:
        (path / "checkpoint").mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path).free
        if free < needed_bytes and not run.finished:
            raise InputError(
                f"run folder {path}: checkpoints need {needed_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free; "
                "make room or choose another runs= folder"
            )
        if not (path / "config.yaml").exists():
            write_text(path / "environment.json", json.dumps(environment(), indent=2) + "\n")
            write_text(path / "inputs.json", json.dumps(inputs, indent=2, ensure_ascii=False) + "\n")
            write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
        elif not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise InputError(
            f"run folder {path} cannot be written ({error.strerror}); choose another runs= folder"
        ) from error
    return run


def _refuse_other(path: Path, there: dict[str, Any], config: dict[str, Any]) -> None:
    # Where a run lies and what it is spread over do not change what it is.
    place = {"runs", "name", "bank", "bank_gb", "shard_teacher"}
    changed = [
        f"{key} {there.get(key)!r} there, {config.get(key)!r} now"
        for key in {**there, **config}
        if key not in place and there.get(key) != config.get(key)
    ]
    if changed:
        raise InputError(
            f"run folder {path} holds a run with other settings ({'; '.join(changed[:3])}); "
            "nothing is overwritten: give another name=, or the same settings to go on with it"
        )


def environment() -> dict[str, Any]:
    """Versions, machine and code state, for whoever reads the numbers later."""
    packages = ("stillroom", "torch", "torchvision", "timm", "numpy")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": sys.argv,
        "git": _git_state(),
    }


def _git_state() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _read(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: is {path.parent} a finished run folder?") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]})") from error
