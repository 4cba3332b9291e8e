"""Trial steps: a few real training steps of a run are timed, in a folder that is removed afterwards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stillroom.batch import Batch
from stillroom.data.decoding_workers import naming_workers
from stillroom.engine.loaders import make_loaders, val_batch
from stillroom.engine.loop import Loop
from stillroom.engine.run_folder import open_run
from stillroom.engine.training_job import Job
from stillroom.errors import Stopped
from stillroom.prepare.prepare import ReadyRun
from stillroom.runtime.device import Machine
from stillroom.runtime.peak_memory import PeakMemory
from stillroom.runtime.reporters import Silent, Values

UNTIMED, TIMED = 2, 20  # steps; the first ones allocate, compile and fill the queues
SECONDS = 15.0  # after which no further step is begun
VAL_BATCHES = 4


@dataclass(frozen=True)
class TrialCosts:
    """What the trial steps cost.

    Attributes:
        steps: in one epoch of the run.
        step_seconds: mean of the timed steps.
        images_per_second: in these steps.
        val_seconds: of one validation of the student.
        teacher_seconds: of the validation of the teacher, once in a run; 0 without one.
        peak_bytes: peak memory of the steps; None where it cannot be measured.
    """

    steps: int
    step_seconds: float
    images_per_second: float
    val_seconds: float
    teacher_seconds: float
    peak_bytes: int | None


@naming_workers()
def take_trial_steps(ready: ReadyRun) -> TrialCosts:
    """Run the training loop for a few steps of its first epoch, with every prediction of the teacher computed.

    The models of ``ready`` are changed by it.

    Args:
        ready: the run.

    Raises:
        Stopped: after Ctrl-C, SIGTERM or SIGHUP.
        InputError: the device has too little memory.
        Diverged: a loss became NaN or infinite.
    """
    machine, data, run = ready.machine, ready.setup.data, ready.recipe.run
    few = data.val.at(torch.arange(min(len(data.val), VAL_BATCHES * val_batch(data.val, run.batch_size, machine))))
    few = few.without_labels()  # predictions are timed and not scored: so few images may have nothing to score
    recipe = replace(ready.recipe, run=replace(run, bank=None))
    trial = replace(ready, recipe=recipe, setup=replace(ready.setup, data=replace(data, val=few)))
    with tempfile.TemporaryDirectory(prefix="stillroom-dry-run-") as folder:
        job = trial.job(open_run(Path(folder) / recipe.run_name, ready.settings, ready.record, 0))
        clock, memory = _StepClock(machine), PeakMemory(machine.device)
        loop = Loop(job, clock)
        begin = machine.clock()
        try:
            loop.run()
        except _EnoughError:
            peak = memory.bytes()
        except Stopped as stopped:
            raise Stopped("stopped; a dry run leaves nothing behind", stopped.signal_number) from None
    parts = len(data.val) / len(few)
    return TrialCosts(
        steps=clock.steps,
        step_seconds=clock.seconds / clock.timed,
        images_per_second=clock.images / clock.seconds,
        val_seconds=_val_seconds(job) * parts,
        teacher_seconds=0.0 if job.teacher is None else (clock.started - begin) * parts,
        peak_bytes=peak,
    )


def _val_seconds(job: Job) -> float:
    """Seconds in which the student predicts the job's validation images, from the first batch on."""
    _, loader = make_loaders(job.data, job.recipe, job.machine, strong=False)
    begin = 0.0

    def batches() -> Iterator[Batch]:
        nonlocal begin
        for batch in loader.epoch(0):
            begin = begin or job.machine.clock()
            yield batch

    job.task.predict(job.student, batches(), job.machine.autocast())
    return job.machine.clock() - begin


class _EnoughError(Exception):
    """Enough steps were timed."""


class _StepClock(Silent):
    """Times the steps of the first epoch, and ends the run when there are enough.

    Attributes:
        started: the time when the first step began.
        steps: in one epoch.
        images: in the timed steps.
        seconds: of the timed steps.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._begin = self.started = self.seconds = 0.0
        self._done = self.images = self.steps = 0

    @property
    def timed(self) -> int:
        """Number of timed steps."""
        return self._done - self._untimed

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:  # noqa: ARG002
        """Start the clock."""
        self.steps = steps
        self._untimed, self._last = min(UNTIMED, steps - 1), min(UNTIMED + TIMED, steps)
        self.started = self._begin = self._machine.clock()
        self._limit = time.perf_counter() + SECONDS

    def step(self, epoch: int, images: int, values: Values) -> None:  # noqa: ARG002
        """Count a step; at the last one stop the clock and the run."""
        self._done += 1
        if self._done <= self._untimed:
            self._begin = self._machine.clock()
            return
        self.images += images
        if self._done >= self._last or time.perf_counter() > self._limit:
            self.seconds = self._machine.clock() - self._begin
            raise _EnoughError
