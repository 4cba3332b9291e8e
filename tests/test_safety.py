"""Every promise of docs/safety.md names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROMISES = [line for line in (ROOT / "docs" / "safety.md").read_text("utf-8").splitlines() if line.startswith("| ")]


def test_every_promise_is_held_by_a_test() -> None:
    rows = [line for line in PROMISES if not line.startswith("| promise ")]
    assert len(rows) > 40
    without = [line for line in rows if not (held := _held_by(line)) or not all(map(_exists, held))]
    assert not without


def _held_by(row: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)


def _exists(test: tuple[str, str]) -> bool:
    path, name = ROOT / test[0], test[1]
    if not path.is_file():
        return False
    return any(
        isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(path.read_text("utf-8")).body
    )
