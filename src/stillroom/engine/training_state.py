"""How far a run has come: saved, and taken up again under the same or another number of processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stillroom.engine import best_weights, checkpoint
from stillroom.engine.training_job import Job
from stillroom.errors import InputError, first_line
from stillroom.formatting import counted
from stillroom.runtime.distributed import Group
from stillroom.runtime.reporters import Reporter

FORMAT = 2  # of the state; another one is another version's


@dataclass
class Progress:
    """How far a run has come; all of it is in the checkpoint.

    Attributes:
        epoch: the one being trained, from 1.
        step: steps done in it.
        seconds: training time spent in it.
        filling: those of them in which the teacher answered for its bank.
        losses: (steps, terms) the value of every term at every step of this epoch.
        correct: training images named rightly in it.
        seen: training images seen in it.
        rows: the numbers of the finished epochs.
        best_weights: digest of the file with the weights of the best of them; empty before the first.
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

    def best(self) -> dict[str, Any]:
        """The row of the epoch with the highest validation accuracy, the earliest of equals."""
        return max(self.rows, key=lambda row: (row["val_top1"], -row["epoch"]))

    def place(self, seed: int) -> tuple[int, int, int]:
        """What random numbers of a step follow from."""
        return seed, self.epoch, self.step


def save_progress(job: Job, optimizer: Optimizer, now: Progress) -> None:
    """Write the checkpoint, and put the best weights it knows in place; every process has to call this.

    Raises:
        InputError: if it cannot be written; what was saved before stays.
    """
    progress = {name: getattr(now, name) for name in now.__dataclass_fields__}
    group = Group(job.machine)
    progress["correct"] = group.total(now.correct)
    random = group.from_all(checkpoint.random_state())
    if not job.machine.first:
        return
    state = {
        "format": FORMAT,
        "stillroom": version("stillroom"),
        "student": job.student.state_dict(),
        "method": job.method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": progress,
        "random": random,
    }
    checkpoint.save_state(job.run.last, state)
    best_weights.put_in_place(job.run)


def restore_progress(job: Job, optimizer: Optimizer, reporter: Reporter) -> Progress:
    """Put student, method, optimizer and random numbers back where the checkpoint has them.

    Args:
        job: whose run has a checkpoint.
        optimizer: over the job's parameters.
        reporter: told when the random numbers cannot go on where they were.

    Returns:
        Where to go on, on the job's device.

    Raises:
        InputError: the checkpoint cannot be read, or is another version's or another run's.
    """
    machine = job.machine
    state = checkpoint.load_state(job.run.last)
    if state.get("format") != FORMAT:
        raise InputError(
            f"checkpoint {job.run.last} was written by {_writer(state)}, in a form that this version does not read: go "
            "on with that version, or delete the checkpoint to begin this run anew"
        )
    try:
        job.student.load_state_dict(state["student"])
        job.method.load_state_dict(state["method"])
        optimizer.load_state_dict(state["optimizer"])
        now = Progress(**state["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"checkpoint {job.run.last} does not fit this run ({first_line(error)}); delete it to begin this run anew"
        ) from error
    if machine.first:
        best_weights.find_again(job.run, now.best_weights, reporter, needed=job.recipe.run.export == "best")
    now.losses = now.losses.to(machine.device)
    # The others' share of what was counted so far stays with process 0.
    now.correct = now.correct.to(machine.device) if machine.first else now.correct.new_zeros((), device=machine.device)
    if len(state["random"]) == machine.world_size:
        checkpoint.restore_random_state(state["random"][machine.rank])
    else:
        checkpoint.seed_anew(*now.place(job.recipe.run.seed), machine.rank)
        if machine.first:
            reporter.say(
                f"note: this run was begun with {counted(len(state['random']), 'process')} and goes on with "
                f"{machine.world_size}: the same images, steps and weights, but new random numbers for dropout"
            )
    return now


def _writer(state: dict[str, Any]) -> str:
    known = state.get("stillroom")
    return f"Stillroom {known}" if isinstance(known, str) else "an earlier version of Stillroom"
