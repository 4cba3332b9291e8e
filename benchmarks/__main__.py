"""Run one benchmark by its name, or list them."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

NAMES = (
    "losses",
    "step",
    "precision",
    "distributed",
    "bank",
    "bank_views",
    "data",
    "loader",
    "index",
    "recipe_cost",
    "detection_step",
    "growth",
    "startup",
    "fusion",
    "teacher_forms",
    "photos",
    "imagenet_scale",
)


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in NAMES:
        import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
        return 0
    print("usage: python -m benchmarks NAME [options]; NAME --help tells the options\n")
    for name in NAMES:
        print(f"  {name:<13}  {headline(name)}")
    return 0 if not arguments or arguments[0] in ("-h", "--help") else 2


def headline(name: str) -> str:
    """The first line of a benchmark's docstring, read without importing it (and PyTorch)."""
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
