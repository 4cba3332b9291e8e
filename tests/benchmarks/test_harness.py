"""The numbers of a comparison are what its rounds say."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from benchmarks.harness import Comparison, Spread, compare, exponent, peak_bytes, print_table

ROOT = Path(__file__).parents[2]


def test_a_ratio_is_taken_within_each_round() -> None:
    took = Comparison({"slow": [2.0, 40.0, 6.0], "fast": [1.0, 10.0, 2.0]})
    assert took.median("slow") == 6.0
    assert took.ratio("slow", "fast") == Spread(2.5, 3.0, 3.5)


def test_a_single_round_has_no_spread() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)


def test_contenders_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    clock = count()

    def contender(name: str) -> float:
        order.append(name)
        return float(next(clock))

    took = compare({"a": lambda: contender("a"), "b": lambda: contender("b")}, rounds=3, warmup=1)
    assert sorted(order) == ["a"] * 4 + ["b"] * 4
    assert order[2:] == ["a", "b", "b", "a", "a", "b"]  # the first place changes hands
    assert took.seconds == {"a": [2.0, 5.0, 6.0], "b": [3.0, 4.0, 7.0]}


def test_a_short_call_is_repeated_until_it_fills_the_least_time() -> None:
    calls = count()
    took = compare({"a": lambda: next(calls)}, rounds=1, warmup=1, least=0.01)
    assert next(calls) > 10
    assert took.median("a") < 0.01


def test_peak_memory_is_what_is_held_at_once() -> None:
    def call() -> None:
        first = torch.ones(1_000_000)
        second = first + 1  # both are held
        del first
        third = second + 1
        del second, third

    assert peak_bytes(call) == pytest.approx(8_000_000, rel=1e-3)


def test_the_exponent_of_a_square_is_two() -> None:
    assert exponent((10, 30), (7, 63)) == pytest.approx(2)


def test_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "b"], [(1, "x")])
    assert capsys.readouterr().out == "| a | b |\n|---|---|\n| 1 | x |\n\n"


def test_python_m_benchmarks_lists_every_benchmark() -> None:
    listed = subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True)
    unknown = subprocess.run([sys.executable, "-m", "benchmarks", "speed"], cwd=ROOT, capture_output=True, check=False)
    names = [line.split()[0] for line in listed.stdout.splitlines()[2:]]
    assert names == [
        "losses", "step", "precision", "distributed", "bank", "bank_views", "data", "loader", "index", "recipe_cost",
        "detection_step", "growth", "startup", "fusion", "teacher_forms", "photos", "imagenet_scale",
    ]  # fmt: skip
    assert unknown.returncode == 2
