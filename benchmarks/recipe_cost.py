"""What each recipe part costs: a run's training steps with it against those of a plain run, interleaved.

    python -m benchmarks recipe_cost

The networks are not trained; speed does not depend on what they know.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.harness import Comparison, compare, print_header, print_table
from stillroom.config import make_recipe
from stillroom.models import ZOO
from stillroom.prepare.prepare import build_run
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.device import make_machine
from stillroom.runtime.reporters import Silent
from stillroom.trial_steps import take_trial_steps

PARTS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"ema": 0.999},
    "clip_grad_norm": {"clip_grad_norm": 1.0},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
    "auto_augment trivial": {"auto_augment": "trivial"},
    "erase": {"erase": 0.25},
    "label_smoothing": {"label_smoothing": 0.1},
    "sampling balanced": {"sampling": "balanced"},
    "adamw": {"optimizer": "adamw"},
    "lamb": {"optimizer": "lamb"},
    "dot": {"optimizer": "dot"},
    "deepkd": {"optimizer": "deepkd"},
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks recipe_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--method", default="dkd")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    options = parser.parse_args(arguments)
    print_header(f"Recipe parts: {options.teacher} to {options.student}, {options.method}, batch {options.batch_size}")
    found = measured(vars(options))
    print_table(
        ["part", "milliseconds a step, median", "times plain (quartiles)"],
        [[part, f"{1e3 * found.median(part):.1f}", found.ratio(part, "plain").text()] for part in PARTS],
    )


def measured(options: Mapping[str, Any]) -> Comparison:
    """Time 20 steps of each part in each round.

    Args:
        options: teacher, student, method, batch_size, accelerator, and rounds.
    """
    common = {name: value for name, value in options.items() if name != "rounds"}
    calls = {part: _steps(common | settings) for part, settings in PARTS.items()}
    return compare(calls, rounds=options["rounds"])


def _steps(settings: Mapping[str, Any]) -> Callable[[], float]:
    data: dict[str, Any] = {"data": "glyphs100", "first_classes": 100, "per_class": 20, "epochs": 1}
    recipe = make_recipe("distill", data | dict(settings))
    machine = make_machine(recipe.run.accelerator, recipe.run.precision)

    def seconds() -> float:
        with torch.random.fork_rng():
            inputs = Inputs(teacher=ZOO[settings["teacher"]](data["first_classes"]))
            return take_trial_steps(build_run(recipe, inputs, Silent(), machine)).step_seconds

    return seconds
