"""The schedule of a comparison or a tuning: which cell runs next, which are repeated, which have failed."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from stillroom.compare.grid import Cell
from stillroom.compare.live_board import Board
from stillroom.compare.plan import Plan, is_done
from stillroom.compare.run_cell import Outcome, train_cell
from stillroom.compare.workers import Workers
from stillroom.errors import first_line
from stillroom.runtime.signals import StopRequest

LOOK_SECONDS = 0.5
RUNS_PER_FILL = 2  # runs that one worker does at most while another fills a part of the bank, which takes longer


class Schedule:
    """Runs the cells of a plan: teachers first; of the runs that share a part of the teacher bank, one fills it first.

    Args:
        plan: the runs; finished ones stay as they are. It is asked for more after each result.
        workers: train the cells.
        count: number of runs at the same time.
        threads: processor cores per run.
        retries: how often a failed run is repeated.
        board: shows the progress.
    """

    def __init__(self, plan: Plan, workers: Workers, *, count: int, threads: int, retries: int, board: Board) -> None:
        self.plan, self.workers, self.board = plan, workers, board
        self.count, self.threads, self.retries = count, threads, retries
        self.waiting = [cell for cell in plan.cells if not is_done(plan, cell)]
        self.running: dict[Future[Outcome], tuple[Cell, int]] = {}
        self.free = list(range(count))[::-1]
        self.tries: dict[str, int] = {}
        self.filled: set[tuple[Any, ...]] = {cell.fills for cell in plan.cells if is_done(plan, cell)}
        self.failed: dict[str, str] = {}

    def run(self, stop: StopRequest) -> dict[str, str]:
        """Work until all cells are done or failed, or a stop is requested.

        Returns:
            Failed cells by name, each with its problem in one line.
        """
        while not stop.signal_number and (self.running or self._next() is not None):
            while self.free and (cell := self._next()) is not None:
                self._begin(cell)
            finished, _ = wait(self.running, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            if any(map(_stopped, finished)):
                time.sleep(LOOK_SECONDS)  # the signal that stopped the run may reach this process next
            for future in () if stop.signal_number else finished:  # a requested stop is no failure
                self._end(future)
            self.board.update([cell for cell, _ in self.running.values()], self.failed)
        return self.failed

    def unsaved(self) -> list[str]:
        """The runs that were stopped and could not save themselves."""
        return [cell.name for future, (cell, _) in self.running.items() if not _ended_well(future)]

    def _begin(self, cell: Cell) -> None:
        self.waiting.remove(cell)
        slot = self.free.pop()
        self.tries[cell.name] = self.tries.get(cell.name, 0) + 1
        future = self.workers.submit(train_cell, cell, self.log(cell), self.threads, slot)
        self.running[future] = cell, slot

    def _end(self, future: Future[Outcome]) -> None:
        cell, slot = self.running.pop(future)
        self.free.append(slot)
        error = future.exception()
        outcome = Outcome(f"its process died ({first_line(error)})", again=True) if error else future.result()
        if not outcome.problem:
            self.filled.add(cell.fills)
            self.board.done(cell)
            self.waiting += self.plan.more()
        elif outcome.diverged and self.plan.takes_divergence(cell, outcome.problem):
            self.board.say(f"{cell.name}: {outcome.problem}; it counts as the worst score")
            self.waiting += self.plan.more()
        elif outcome.again and self.tries[cell.name] <= self.retries:
            self.board.say(f"{cell.name}: {outcome.problem}; repeated from its last checkpoint")
            self.waiting.insert(0, cell)
        else:
            self.failed[cell.name] = f"{outcome.problem} (see {self.log(cell)})"
            for other in [other for other in self.waiting if other.waits_for == cell.name]:
                self.waiting.remove(other)
                self.failed[other.name] = f"its teacher's run {cell.name} failed"

    def _next(self) -> Cell | None:
        """The first cell that can begin, unless another one saves work on the teacher bank.

        A run that begins a part of the bank goes first where few others are left to keep the workers busy meanwhile. A
        run whose part another one is filling goes last, for both would do the same work.
        """
        busy = {cell.name for cell, _ in self.running.values()} | {cell.name for cell in self.waiting}
        ready = [cell for cell in self.waiting if cell.waits_for not in busy]
        filling = {cell.fills for cell, _ in self.running.values()} - self.filled - {()}
        free = [cell for cell in ready if cell.fills not in filling]
        beginning = [cell for cell in free if cell.fills and cell.fills not in self.filled]
        few = len(free) - len(beginning) <= RUNS_PER_FILL * (self.count - 1)
        return next(iter([*(beginning if few else ()), *free, *ready]), None)

    def log(self, cell: Cell) -> Path:
        """The log file of a cell's run."""
        return self.plan.folder / "logs" / f"{cell.name}.txt"


def _stopped(future: Future[Outcome]) -> bool:
    """Whether a run ended because a stop was requested."""
    return future.done() and not future.cancelled() and future.exception() is None and future.result().stopped


def _ended_well(future: Future[Outcome]) -> bool:
    """Whether a run is finished or has saved itself."""
    if not future.done() or future.cancelled() or future.exception() is not None:
        return False
    return future.result().stopped or not future.result().problem
