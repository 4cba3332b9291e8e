"""A run's checkpoint: its entries, and how they are saved and restored.

A checkpoint file is either complete or absent, and reading one never executes code.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillroom.engine import best_weights
from stillroom.engine.random_state import random_state, restore_random_state, seed_from_place
from stillroom.engine.training_job import Job
from stillroom.engine.weight_update import WeightUpdate
from stillroom.errors import InputError, first_line
from stillroom.files import write_atomically, write_failure
from stillroom.formatting import counted
from stillroom.models.weight_files import read_torch
from stillroom.reading import UnreadableError
from stillroom.runtime.distributed import Group
from stillroom.runtime.global_batch_norm import BatchNorms
from stillroom.runtime.reporters import Reporter
from stillroom.scores import Score

FORMAT = 2  # raised when the entries change


@dataclass
class Progress:
    """The progress of a run; the checkpoint holds all of it.

    Attributes:
        epoch: the current epoch, from 1.
        step: steps done in it.
        seconds: training time spent in it.
        filling: seconds of these in which the teacher's logits were computed for its bank.
        losses: (steps, terms), each term's value at each step of this epoch.
        correct: training images of this epoch that were classified correctly.
        seen: training images seen in this epoch.
        rows: the metrics of the finished epochs.
        best_weights: digest of the file with the best epoch's weights; empty before the first epoch ends.
    """

    losses: Tensor
    correct: Tensor
    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    filling: float = 0.0
    seen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    best_weights: str = ""

    def best(self, score: Score) -> dict[str, Any]:
        """The row of the best epoch, the earliest of equals.

        It is the best on the training images that early stopping holds out; without them, the one with the highest
        score on the validation images; without a score, with the highest agreement with the teacher; without all, the
        latest.

        Args:
            score: the main score of the task.
        """
        for name in (f"stop_{score.key}", "stop_agreement", score.column, "agreement"):
            if judged := [row for row in self.rows if row.get(name) is not None]:
                return max(judged, key=lambda row: (row[name], -row["epoch"]))
        return self.rows[-1]

    def place(self, seed: int) -> tuple[int, int, int]:
        """Seed, epoch and step, from which the random numbers of a step follow."""
        return seed, self.epoch, self.step


def save_progress(job: Job, update: WeightUpdate, now: Progress, norms: BatchNorms | None = None) -> None:
    """Write the checkpoint and put its best weights in place; every process must call this.

    Args:
        job: whose state is saved.
        update: the optimizer and the averaged weights.
        now: the progress.
        norms: the batch norms of the job; running statistics that differ between processes are saved for each.

    Raises:
        InputError: it cannot be written; the previous checkpoint is kept.
    """
    progress = {name: getattr(now, name) for name in now.__dataclass_fields__}
    group = Group(job.machine)
    progress["correct"] = group.total(now.correct)
    random = group.from_all(random_state())
    own = None if norms is None else norms.own_statistics()
    statistics = None if own is None else group.from_all(own.cpu())
    if not job.machine.first:
        return
    state = {
        "format": FORMAT,
        "stillroom": version("stillroom"),
        "student": job.student.state_dict(),
        "method": job.method.state_dict(),
        **update.state_dict(),
        "progress": progress,
        "random": random,
        "norm_statistics": statistics,
    }
    save_state(job.run.last, state)
    best_weights.put_in_place(job.run)


def restore_progress(job: Job, update: WeightUpdate, reporter: Reporter, norms: BatchNorms | None = None) -> Progress:
    """Restore student, method, optimizer and random numbers from the checkpoint.

    Args:
        job: whose run has a checkpoint.
        update: the optimizer and the averaged weights.
        reporter: told if the random numbers cannot continue.
        norms: the batch norms of the job, for statistics of each process. Under another number of processes all get
            the mean.

    Returns:
        The restored progress, on the job's device.

    Raises:
        InputError: the checkpoint cannot be read, or is another version's or another run's.
    """
    machine = job.machine
    state = load_state(job.run.last)
    if state.get("format") != FORMAT:
        raise InputError(
            f"checkpoint {job.run.last} was written by {_writer(state)}, in a form that this version cannot read: "
            "continue with that version, or delete the checkpoint to start this run again"
        )
    try:
        job.student.load_state_dict(state["student"])
        job.method.load_state_dict(state["method"])
        update.load_state_dict(state)
        now = Progress(**state["progress"])
        statistics = state.get("norm_statistics")
        if statistics is not None and norms is not None:
            same = len(statistics) == machine.world_size
            norms.load_statistics(statistics[machine.rank] if same else torch.stack(statistics).mean(0))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"checkpoint {job.run.last} does not fit this run ({first_line(error)}); delete it to start this run again"
        ) from error
    if machine.first:
        best_weights.find_again(job.run, now.best_weights, reporter, needed=job.recipe.run.export == "best")
    now.losses = now.losses.to(machine.device)
    # Process 0 keeps the counts of all processes.
    now.correct = now.correct.to(machine.device) if machine.first else now.correct.new_zeros((), device=machine.device)
    if len(state["random"]) == machine.world_size:
        restore_random_state(state["random"][machine.rank])
    else:
        seed_from_place(*now.place(job.recipe.run.seed), machine.rank)
        if machine.first:
            reporter.say(
                f"note: this run was started with {counted(len(state['random']), 'process')} and continues with "
                f"{machine.world_size}: the same images, steps and weights, but new random numbers for dropout"
            )
    return now


def _writer(state: dict[str, Any]) -> str:
    known = state.get("stillroom")
    return f"Stillroom {known}" if isinstance(known, str) else "an earlier version of Stillroom"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values atomically.

    Raises:
        InputError: it cannot be written, for example on a full disk; the previous file is kept.
    """

    def fill(aside: Path) -> None:
        with aside.open("wb") as file:  # given a path, torch would not say why it failed
            torch.save(state, file)

    try:
        write_atomically(path, fill)
    except (OSError, RuntimeError) as error:
        cause = _system_error(error)
        if cause is None:
            raise
        measure = _Size()
        torch.save(state, measure)
        raise write_failure(path, cause, measure.size) from error


class _Size(io.BytesIO):
    """A file that only counts the bytes written to it."""

    size = 0

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count


def _system_error(error: BaseException | None) -> OSError | None:
    """The operating system's error behind an error; torch hides it behind an error of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint; code in it is refused, never executed.

    Raises:
        InputError: the file is missing, damaged or not a checkpoint.
    """
    try:
        state: dict[str, Any] = read_torch(path)
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {path} does not exist") from error
    except PermissionError as error:
        raise InputError(f"checkpoint {path} cannot be read ({error.strerror}); make it readable") from error
    except (OSError, UnreadableError) as error:
        reason = error.reason if isinstance(error, UnreadableError) else first_line(error)
        raise InputError(f"checkpoint {path} cannot be read ({reason}); delete it to start this run again") from error
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {path} cannot be read (it has no entries); delete it to start this run again")
    return state
