"""The named losses and their default weights."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from stillroom import losses
from stillroom.methods import PRESETS, WRAPPERS, parse_method

PAGES = Path(__file__).parents[2] / "docs" / "methods"
CLASSES = {kind for name in losses.__all__ if inspect.isclass(kind := getattr(losses, name))}


def test_every_loss_has_one_name() -> None:
    named = [entry.loss for entry in (*PRESETS.values(), *WRAPPERS.values())]
    assert len(named) == len(set(named))
    assert set(named) == CLASSES
    assert not PRESETS.keys() & {*WRAPPERS, "ce"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_alone_is_the_loss_with_its_default_weights(name: str) -> None:
    preset = PRESETS[name]
    method = parse_method(name)
    (term,) = method.terms
    assert type(term.loss) is preset.loss
    assert (method.ce, term.weight, term.warmup) == (preset.ce, preset.weight, preset.warmup)


@pytest.mark.parametrize("name", [*PRESETS, *WRAPPERS])
def test_a_name_has_a_function_and_a_page(name: str) -> None:
    entry = (PRESETS | WRAPPERS)[name]  # type: ignore[operator]
    function = getattr(losses, entry.function or name)
    assert inspect.isfunction(function)
    assert (PAGES / f"{entry.loss.__module__.rpartition('.')[2]}.md").is_file()
    assert entry.title
    assert entry.source
