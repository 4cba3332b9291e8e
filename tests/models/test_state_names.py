from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.models.state_names import fill_in, find_prefix, is_averaged

EXPECTED = {"conv.weight": torch.zeros(2, 1, 3, 3), "fc.weight": torch.zeros(4, 2), "fc.bias": torch.zeros(4)}


def found(*prefixes: str, ema: bool = True) -> str:
    stored = {f"{prefix}{name}": value for prefix in prefixes for name, value in EXPECTED.items()}
    return find_prefix(stored, EXPECTED, Path("w.pth"), ema=ema)


def test_names_as_they_are_come_first_and_deep_prefixes_are_found() -> None:
    assert found("", "copy.") == ""
    assert found("a.b.c.") == "a.b.c."


def test_a_prefix_with_few_of_the_names_does_not_win() -> None:
    names = [*(f"net.{name}" for name in EXPECTED), "teacher.fc.weight"]
    assert find_prefix(dict.fromkeys(names), EXPECTED, Path("w.pth"), ema=True) == "net."


def test_a_file_of_something_else_has_no_prefix() -> None:
    assert find_prefix({"a.b": 1}, EXPECTED, Path("w.pth"), ema=True) == ""


def test_of_two_networks_the_averaged_one_is_told_by_its_name() -> None:
    assert found("model.", "model_ema.module.") == "model_ema.module."
    assert found("model.", "model_ema.module.", ema=False) == "model."
    assert is_averaged("ema.")
    assert not is_averaged("schema.")
    with pytest.raises(InputError, match=r"w\.pth holds 2 networks that fit, under a\., b\."):
        found("a.", "b.")


def test_layers_that_only_have_the_names_of_the_model_are_no_networks_that_fit() -> None:
    layers = {"0.weight": torch.zeros(5, 3), "0.bias": torch.zeros(5), "1.weight": torch.zeros(7, 5)}
    layers["1.bias"] = torch.zeros(7)
    assert find_prefix(layers, nn.Linear(2, 2).state_dict(), Path("w.pth"), ema=True) == ""
    assert find_prefix(layers, nn.Linear(3, 5).state_dict(), Path("w.pth"), ema=True) == "0."


def test_a_tied_tensor_that_a_writer_left_out_is_filled_in() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

    stored = {"first.weight": torch.ones(2, 2)}
    fill_in(stored, Tied().state_dict())
    assert stored["second.weight"] is stored["first.weight"]
