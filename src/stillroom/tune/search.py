"""The search: which trials are trained, at which length, as a function of the results so far alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from stillroom.compare.grid import Cell
from stillroom.engine.run_folder import RunFolder
from stillroom.report.tuning_file import with_scores, write_trials
from stillroom.report.tuning_record import Trial, Tuning, Winner, trial_folder
from stillroom.trust import Trust
from stillroom.tune.proposals import propose, results_needed
from stillroom.tune.rungs import survivors
from stillroom.tune.search_space import Space

WORST = 0.0  # the score of a trial that diverged


@dataclass(frozen=True)
class Searched:
    """A method in a search.

    Attributes:
        label: of the method.
        space: its parameters.
        base: the cell of a final run, from which those of the trials are made.
    """

    label: str
    space: Space
    base: Cell


class Search:
    """The runs of a tuning: a plan (:class:`stillroom.compare.plan.Plan`) that grows with the results.

    Successive halving, for each method on its own: all trials are trained at the first rung, the best of them
    (:func:`stillroom.tune.rungs.survivors`) at the next, and so on; a rung begins when the one before is complete.
    Values are proposed in generations, each from the results of those before it. So neither the number of workers nor
    the order in which runs end changes anything.

    Args:
        tuning: the record; its trials keep their values.
        methods: to be searched.
        teachers: the cells that train the teacher of the trials and that of the final runs beside each other; without
            those that exist already.
    """

    def __init__(self, tuning: Tuning, methods: list[Searched], teachers: Sequence[Cell]) -> None:
        self.folder, self._tuning, self._methods = tuning.folder, tuning, methods
        self.cells: list[Cell] = [*teachers]
        self._trials = {
            one.label: [replace(trial, scores={}) for trial in tuning.of_method(one.label)] for one in methods
        }
        self._places: dict[str, tuple[str, int, int]] = {}  # cell -> method, trial, epochs
        self._scores: dict[tuple[str, int, int], float] = {}
        self.more()

    @property
    def run_count(self) -> int:
        """Number of runs in the end."""
        teachers = len(self.cells) - len(self._places)
        return teachers + len(self._methods) * sum(self._tuning.budget.quotas)

    @property
    def epoch_count(self) -> int:
        """Number of epochs of all runs in the end."""
        teachers = sum(cell.epochs for cell in self.cells if cell.name not in self._places)
        return teachers + len(self._methods) * self._tuning.budget.epochs

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials so far."""
        return tuple(trial for trials in self._trials.values() for trial in trials)

    def more(self) -> list[Cell]:
        """The cells that follow from the results so far; values that are new are recorded before their first run."""
        known, before = len(self.cells), self.trials
        for method in self._methods:
            self._propose(method)
            for place, epochs in enumerate(self._tuning.budget.rungs):
                for number in self._chosen(method.label, place) or ():
                    self._add(method, number, epochs)
        if self.trials != before:
            write_trials(self.folder, self.trials)
        return self.cells[known:]

    def takes_divergence(self, cell: Cell, problem: str) -> bool:
        """Record that a trial diverged: it has the worst score. A teacher that diverges has failed."""
        if cell.name not in self._places:
            return False
        label, number, epochs = self._places[cell.name]
        trial = self._trials[label][number]
        self._trials[label][number] = replace(trial, problems={**trial.problems, epochs: problem})
        write_trials(self.folder, self.trials)
        return True

    def has_diverged(self, cell: Cell) -> bool:
        """Whether it is recorded that a trial diverged at a rung."""
        if cell.name not in self._places:
            return False
        label, number, epochs = self._places[cell.name]
        return epochs in self._trials[label][number].problems

    def winners(self) -> dict[str, Winner]:
        """The best trial of each method at the last rung; without those that are not complete."""
        found = {}
        for method in self._methods:
            numbers = self._chosen(method.label, len(self._tuning.budget.rungs))
            if numbers is None:
                continue
            trial, longest = self._trials[method.label][numbers[0]], self._tuning.budget.rungs[-1]
            text = method.space.text(trial.values, method.space.epochs)
            own = method.space.own_settings(trial.values, method.space.epochs)
            score = self._score(method.label, trial.number, longest)
            assert score is not None
            found[method.label] = Winner(text, {**method.space.method.settings, **own}, trial.number, score)
        return found

    def _propose(self, method: Searched) -> None:
        """Add the trials whose earlier generations have results."""
        trials, shortest = self._trials[method.label], self._tuning.budget.rungs[0]
        while len(trials) < self._tuning.budget.trials:
            number = len(trials)
            known = [(one, self._score(method.label, one.number, shortest)) for one in trials[: results_needed(number)]]
            results = [(one.values, score) for one, score in known if score is not None]
            if len(results) < len(known):
                return
            values = propose(method.space.ranges, self._tuning.seed, method.label, number, results)
            trials.append(Trial(method.label, number, values))

    def _chosen(self, label: str, place: int) -> list[int] | None:
        """The trials at a rung, the best at the rung before first; None while that rung is not complete.

        After the last rung it is one trial, the winner.
        """
        rungs, quotas = self._tuning.budget.rungs, (*self._tuning.budget.quotas, 1)
        numbers = list(range(len(self._trials[label])))
        for epochs, (count, going_on) in zip(rungs[:place], pairwise(quotas), strict=False):
            scores = {number: self._score(label, number, epochs) for number in numbers}
            known = {number: score for number, score in scores.items() if score is not None}
            if len(known) < count:
                return None
            numbers = survivors(known, going_on)
        return numbers

    def _score(self, label: str, number: int, epochs: int) -> float | None:
        """The score of a trial at a rung; None without a result."""
        place, trial = (label, number, epochs), self._trials[label][number]
        if place not in self._scores:
            if epochs not in trial.problems:
                if not RunFolder(trial_folder(self.folder, *place)).complete:
                    return None
                trial = with_scores(self._tuning, trial)
                self._trials[label][number] = replace(trial, scores={})
            self._scores[place] = trial.scores.get(epochs, WORST)
        return self._scores[place]

    def _add(self, method: Searched, number: int, epochs: int) -> None:
        """Add the cell of a trial at a rung, unless it is there."""
        folder = trial_folder(self.folder, method.label, number, epochs)
        if folder.name not in self._places:
            self._places[folder.name] = method.label, number, epochs
            self.cells.append(trial_cell(method, self._trials[method.label][number], epochs, self._tuning))


def trial_cell(method: Searched, trial: Trial, epochs: int, tuning: Tuning) -> Cell:
    """The cell of a trial at a rung: seed 0, judged by held-out training images, on a bank that all trials share.

    Args:
        method: of the trial.
        trial: its values.
        epochs: of the rung.
        tuning: the record.
    """
    base = method.base
    folder = trial_folder(tuning.folder, method.label, trial.number, epochs)
    text, settings = method.space.at(trial.values, epochs)
    place: dict[str, Any] = {"name": folder.name, "runs": str(folder.parent)}
    own = {"method": text, "seed": 0, "hold_out": tuning.hold_out, **place}
    fills = ("trials", epochs, *base.fills) if base.fills else ()
    trust = trusting(base.trust, method.space.method.text, text)
    return dataclasses.replace(base, name=folder.name, settings={**settings, **own}, fills=fills, trust=trust)


def trusting(trust: Trust, method: str, text: str) -> Trust:
    """The permissions for a method with other values: they are those of the method that the user gave."""
    return replace(trust, own=trust.own | {text}) if method in trust.own else trust
