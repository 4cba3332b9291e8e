"""The page's section on a tuning: its budget, who is ahead, and every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stillroom.errors import InputError
from stillroom.formatting import counted
from stillroom.report.charts import Curve, line_chart
from stillroom.report.page_charts import Chart
from stillroom.report.page_tables import Entry, Heading, PageTable, TableRow
from stillroom.report.run_settings import value_text
from stillroom.report.tuning_record import Trial, Tuning
from stillroom.report.tuning_statistics import (
    best_so_far,
    budgets_of,
    chances_ahead,
    expected_best,
    first_scores,
    importances,
)
from stillroom.scores import Score, score_of


@dataclass(frozen=True)
class TuningSection:
    """The page's section on one tuning.

    Attributes:
        name: its heading.
        score: what the trials are compared by.
        places: the number of each method on the page, which decides its colour.
        sentences: the budget and who is ahead.
        first: epochs of the first rung.
        curve: the best score against the epochs spent; None before the first score.
        chances: tables of probabilities and expected scores by number of trials; empty before each method has a trial.
        importances: method -> parameter -> importance.
        notes: why something is missing.
        trials: one row a trial.
    """

    name: str
    score: Score
    places: Mapping[str, int]
    sentences: Sequence[str]
    first: int
    curve: Chart | None
    chances: Sequence[PageTable]
    importances: Mapping[str, Mapping[str, float]]
    notes: Sequence[str]
    trials: PageTable


def tuning_section(tuning: Tuning, places: Mapping[str, int], *, several: bool = False) -> TuningSection:
    """Make the section.

    Args:
        tuning: finished or not.
        places: the number of each method on the page.
        several: whether the page shows several tunings, which are then told apart by their folders.
    """
    score = score_of(tuning.settings)
    chances = _chances(tuning)
    found, notes = _importances(tuning)
    return TuningSection(
        name=f"Tuning: {tuning.folder.resolve().name}" if several else "Tuning",
        score=score,
        places=places,
        sentences=[*_budget(tuning), *_leaders(chances), *_result(tuning, score)],
        first=tuning.budget.rungs[0],
        curve=_curve(tuning, places, score),
        chances=_chance_tables(tuning, chances),
        importances=found,
        notes=notes,
        trials=_trial_table(tuning),
    )


def _budget(tuning: Tuning) -> list[str]:
    budget = tuning.budget
    rungs = [f"{counted(budget.trials, 'trial')} of {counted(budget.rungs[0], 'epoch')}"]
    rungs += [
        f"{quota} of them again with {counted(epochs, 'epoch')}"
        for quota, epochs in zip(budget.quotas[1:], budget.rungs[1:], strict=True)
    ]
    who = "The method has" if len(tuning.methods) == 1 else f"Each of {counted(len(tuning.methods), 'method')} has"
    held = f"{100 * tuning.hold_out:.3g} % of the training images of each class"
    return [
        f"{who} the same budget: {', '.join(rungs)}; {counted(budget.epochs, 'epoch')} in all. Each rung is a complete "
        f"run with the whole schedule. Trials are judged on {held}, which are held out. The validation images are not "
        "used.",
        *(caution.reason for caution in tuning.cautions),
    ]


def _chances(tuning: Tuning) -> dict[int, dict[str, float]]:
    """The probability of each method to be ahead, by number of trials."""
    scores = first_scores(tuning)
    return {n: chances_ahead(scores, n) for n in budgets_of(scores)} if len(scores) > 1 else {}


def _leaders(chances: Mapping[int, Mapping[str, float]]) -> list[str]:
    """Who is ahead after how many trials, in a sentence; neighbouring numbers with one leader are joined."""
    groups: list[tuple[str, list[int]]] = []
    for trials, of_method in chances.items():
        leader = max(of_method, key=lambda method: of_method[method])
        if groups and groups[-1][0] == leader:
            groups[-1][1].append(trials)
        else:
            groups.append((leader, [trials]))
    parts = []
    for leader, numbers in groups:
        each = list(dict.fromkeys(_percent(chances[n][leader]) for n in (numbers[0], numbers[-1])))
        span = " to ".join(dict.fromkeys(str(n) for n in (numbers[0], numbers[-1])))
        parts.append(f"after {span} {'trial' if span == '1' else 'trials'} {leader} ({' to '.join(each)})")
    return [f"Most probably ahead at the first rung: {'; '.join(parts)}."] if parts else []


def _result(tuning: Tuning, score: Score) -> list[str]:
    """The winners, or who leads so far."""
    if tuning.winners:
        ranked = sorted(tuning.winners.items(), key=lambda one: -one[1].score)
        named = [f"{label} {one.score:.2f} % (trial {one.trial})" for label, one in ranked]
        failed = [label for label in tuning.methods if label not in tuning.winners]
        lost = f" No trial of {', '.join(failed)} has a score." if failed else ""
        return [f"Best held-out {score.name} at the longest rung: {', '.join(named)}.{lost}"]
    runs = sum(len(trial.scores) + len(trial.problems) for trial in tuning.trials)
    total = sum(tuning.budget.quotas) * len(tuning.methods)
    text = f"The search has not ended: {runs} of {counted(total, 'run')} are done."
    best = max(
        ((score, epochs, t) for t in tuning.trials for epochs, score in t.scores.items()),
        key=lambda one: one[0],
        default=None,
    )
    if best is None:
        return [text]
    value, epochs, trial = best
    return [
        f"{text} {trial.method} leads so far with {value:.2f} % (trial {trial.number}, {counted(epochs, 'epoch')}). "
        "The same command continues it."
    ]


def _curve(tuning: Tuning, places: Mapping[str, int], score: Score) -> Chart | None:
    """The best score against the epochs spent, as steps."""
    curves, ends = [], []
    for method in tuning.methods:
        steps = [step for step in best_so_far(tuning, method) if step.best > 0]
        if not steps:
            continue
        points = [(steps[0].epochs, steps[0].best)]
        for before, step in pairwise(steps):
            points += [(step.epochs, before.best), (step.epochs, step.best)]
        epochs, values = zip(*dict.fromkeys(points), strict=True)
        curves.append(Curve(method, places[method], epochs, values, values, values))
        ends.append(f"{method} {steps[-1].best:.1f} % after {counted(steps[-1].epochs, 'epoch')}")
    if not curves:
        return None
    caption = (
        f"The highest held-out {score.name} of any trial so far against the epochs spent on the method, in the order "
        "of the search: rung by rung."
    )
    label = f"best held-out {score.name}, %"
    return Chart(line_chart(curves, label, "epochs spent"), f"{caption} {'; '.join(ends)}.", caption)


def _chance_tables(tuning: Tuning, chances: Mapping[int, Mapping[str, float]]) -> list[PageTable]:
    scores, first = first_scores(tuning), tuning.budget.rungs[0]
    numbers = budgets_of(scores)
    columns = tuple(
        Heading(counted(n, "trial"), f"after {counted(n, 'trial')} of each method, {counted(n * first, 'epoch')}")
        for n in numbers
    )
    tables = []
    if chances:
        rows = tuple(
            TableRow(m, "", tuple(Entry(_percent(chances[n][m]), chances[n][m]) for n in numbers)) for m in scores
        )
        tables.append(PageTable("Probability of being ahead", columns, rows))
    if numbers:
        best = {m: [expected_best(values, n) for n in numbers] for m, values in scores.items()}
        rows = tuple(TableRow(m, "", tuple(Entry(f"{v:.2f}", v) for v in values)) for m, values in best.items())
        tables.append(PageTable("Expected best score, %", columns, rows))
    return tables


def _importances(tuning: Tuning) -> tuple[dict[str, dict[str, float]], list[str]]:
    """The importances by method, and why they are missing for some."""
    found, reasons = {}, []
    for method in tuning.methods:
        try:
            found[method] = importances(tuning, method)
        except InputError as error:
            reasons.append(str(error))
    notes = [f"The importance of parameters is not shown for every method: {'; '.join(dict.fromkeys(reasons))}."]
    return found, notes if reasons else []


def _trial_table(tuning: Tuning) -> PageTable:
    """One row a trial; parameters that several methods have get a column of their own."""
    names = [dict.fromkeys(name for t in tuning.of_method(method) for name in t.values) for method in tuning.methods]
    shared = [
        name for name in dict.fromkeys(n for of_one in names for n in of_one) if sum(name in n for n in names) > 1
    ]
    rungs = tuning.budget.rungs
    columns = (
        Heading("trial", "its number; trial 0 has the default values"),
        *(Heading(f"{counted(e, 'epoch')}, %", f"held-out score after {counted(e, 'epoch')}") for e in rungs),
        Heading("state", "winner, finished, stopped after an earlier rung, diverged, failed, or still in the search"),
        *(Heading(name, "setting of the optimizer") for name in shared),
        Heading("parameters", "values of the method's own parameters"),
    )
    rows = []
    for trial in (t for method in tuning.methods for t in tuning.of_method(method)):
        own = ", ".join(f"{name} {_value(trial, name).text}" for name in trial.values if name not in shared)
        entries = (
            Entry(str(trial.number), trial.number),
            *(_score(trial, epochs) for epochs in rungs),
            _state(tuning, trial),
            *(_value(trial, name) for name in shared),
            Entry(own or "–", own or None, kind="values"),
        )
        rows.append(TableRow(trial.method, "", entries))
    return PageTable("Trials", columns, tuple(rows))


def _score(trial: Trial, epochs: int) -> Entry:
    if epochs in trial.scores:
        return Entry(f"{trial.scores[epochs]:.2f}", trial.scores[epochs])
    return Entry(note=trial.problems.get(epochs, ""))


def _value(trial: Trial, name: str) -> Entry:
    if name not in trial.values:
        return Entry()
    value = trial.values[name]
    return Entry(f"{value:.3g}" if isinstance(value, float) else value_text(value), value)


def _state(tuning: Tuning, trial: Trial) -> Entry:
    if trial.problems:
        why = next(iter(trial.problems.values()))
        return Entry(word := "diverged" if "diverged" in why.lower() else "failed", word, why, "bad")
    winner = tuning.winners.get(trial.method)
    if winner is not None and winner.trial == trial.number:
        return Entry("winner", "winner", kind="good")
    word = "finished" if tuning.budget.rungs[-1] in trial.scores else "stopped" if tuning.winners else "searching"
    return Entry(word, word)


def _percent(chance: float) -> str:
    """A probability in whole percent; only certain ones are 0 and 100 %."""
    if 0 < chance < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < chance < 1 else f"{100 * chance:.0f} %"
