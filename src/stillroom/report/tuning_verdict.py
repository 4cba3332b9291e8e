"""What a verdict says about tuning: whether all methods had equal budgets, and which methods were not tuned."""

from __future__ import annotations

from collections.abc import Sequence

from stillroom.formatting import counted
from stillroom.report.aggregate import Pair
from stillroom.report.comparison_file import TunedMethod
from stillroom.report.run_settings import value_text


def tuning_sentences(pair: Pair) -> list[str]:
    """Whether the methods of a pair were tuned with equal budgets; nothing where none was tuned.

    Args:
        pair: with what its ``comparison.yaml`` says about tuning.
    """
    budgets: dict[str, list[str]] = {}
    for method in pair.methods:
        if method in pair.tuned:
            budgets.setdefault(_budget(pair.tuned[method]), []).append(method)
    if not budgets:
        return []
    untuned = [method for method in pair.methods if pair.is_untuned(method)]
    lines = [_equal(budgets, all_tuned=not untuned) if len(budgets) == 1 else _unequal(budgets)]
    if untuned:
        lines.append(
            f"Not tuned: {', '.join(untuned)}. The comparison with tuned methods is not fair to {_them(untuned)}."
        )
    other = {
        name: both for method in pair.methods if method in pair.tuned for name, both in pair.tuned[method].other.items()
    }
    if other:
        named = [f"{name} {value_text(there)}, here {value_text(here)}" for name, (there, here) in other.items()]
        lines.append(f"The trials of the tuning had other settings than these runs: {'; '.join(named)}.")
    return lines


def _equal(budgets: dict[str, list[str]], *, all_tuned: bool) -> str:
    ((budget, methods),) = budgets.items()
    if len(methods) == 1:
        return f"{methods[0]} was tuned: {budget}."
    who = "All methods" if all_tuned else ", ".join(methods)
    return f"{who} were tuned with equal budgets: each {budget}."


def _unequal(budgets: dict[str, list[str]]) -> str:
    each = "; ".join(f"{', '.join(methods)}: {budget}" for budget, methods in budgets.items())
    return f"The methods were tuned with unequal budgets: {each}."


def _budget(tuned: TunedMethod) -> str:
    judged = f"judged on {100 * tuned.hold_out:.3g} % of the training images, which were held out"
    return f"{counted(tuned.trials, 'trial')} with {counted(tuned.epochs, 'epoch')} in all, {judged}"


def _them(methods: Sequence[str]) -> str:
    return "it" if len(methods) == 1 else "them"
