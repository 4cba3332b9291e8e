"""One process of a comparison or a tuning: it trains one cell after another, with images that are loaded once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stillroom.api import run_recipe
from stillroom.compare.grid import Cell
from stillroom.config import DataOptions
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import Diverged, InputError, InUse, Stopped, first_line
from stillroom.prepare.known_classes import known_classes
from stillroom.prepare.load_dataset import load_dataset, loading_options
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import data_fingerprints
from stillroom.runtime.reporters import Lines
from stillroom.runtime.signals import StopRequest, stop_requests

Classes = tuple[str, ...] | None

SECONDS_TO_SAVE = 30  # what a run that is told to stop has for its step and its checkpoint

_latest: list[tuple[tuple[DataOptions, Classes], Inputs]] = []  # the images of the latest cell, for the next ones


@dataclass(frozen=True)
class Outcome:
    """The result of :func:`train_cell`.

    Attributes:
        problem: what went wrong, in one line; empty when the run is finished.
        again: whether another try can help, which continues from the run's last checkpoint.
        stopped: whether it was asked to stop, and everything is saved.
        diverged: whether the training diverged.
    """

    problem: str = ""
    again: bool = False
    stopped: bool = False
    diverged: bool = False


def train_cell(cell: Cell, log: Path, threads: int, slot: int) -> Outcome:
    """Train one cell, or continue its run.

    Args:
        cell: what to run.
        log: receives everything the run prints, and the traceback of an error.
        threads: processor threads that this run may use.
        slot: which of the machine's GPUs to use, modulo their number.
    """
    torch.set_num_threads(threads)
    # The variable by which torchrun, too, assigns a GPU to a process.
    os.environ["LOCAL_RANK"] = str(slot % max(1, torch.cuda.device_count()))
    with stop_requests() as stop, _printing_to(log):  # around everything, so that no request to stop is missed
        try:
            _run(cell, stop)
        except Stopped as stopped:
            print(stopped)
            return Outcome(str(stopped), again=True, stopped=True)
        except Exception as error:  # noqa: BLE001  the other cells continue whatever it is
            traceback.print_exc()
            diverged = isinstance(error, Diverged)
            again = not (diverged or isinstance(error, InputError))
            return Outcome(first_line(error), again=again, diverged=diverged)
    return Outcome()


def _run(cell: Cell, stop: StopRequest) -> RunFolder:
    """Train with the images that this process holds; wait for an orphan that still has the run."""
    recipe = cell.recipe
    inputs = _inputs(loading_options(recipe.data), known_classes(recipe, cell.trust))
    patience = time.monotonic() + SECONDS_TO_SAVE
    while True:
        try:
            return run_recipe(recipe, Lines(), replace(inputs, trust=cell.trust)).record
        except InUse:  # by an orphan of a killed comparison, which saves its run and ends
            if time.monotonic() > patience or stop.signal_number:
                raise
            time.sleep(1)


def _inputs(options: DataOptions, classes: Classes) -> Inputs:
    """Images with their fingerprints, loaded and hashed once for all cells that use the same."""
    for (known, known_as), inputs in _latest:
        assert inputs.data is not None
        _, height, width = inputs.data.input_shape
        # The run of a teacher that was trained here fixes image_size for its students, to the size the images have.
        as_they_are = known.image_size is None and height == width == options.image_size
        same = known == options or (as_they_are and replace(known, image_size=options.image_size) == options)
        if same and known_as == classes:
            return inputs
    _latest.clear()  # two sets may be more than the memory holds
    data = load_dataset(options, copies=1, classes=classes)  # check_cells() has counted the copies of all processes
    _latest[:] = [((options, classes), Inputs(data=data, fingerprints=data_fingerprints(data)))]
    return _latest[0][1]


def end_with(parent: int) -> None:
    """End this process soon after its parent ends, for whatever reason that is.

    Args:
        parent: process id of the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)  # an active run saves its state and stops
        time.sleep(SECONDS_TO_SAVE)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Redirect this process's output to a file, including that of compiled libraries."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.is_symlink():  # in a folder from elsewhere it may point at any file of the user's
        log.unlink()
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with log.open("a", encoding="utf-8") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
