"""A model's whole output, and other things that are no tensors, get an error that says what to pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stillroom import losses

LOGITS = torch.zeros(2, 3)
MAPS = (torch.zeros(2, 3, 4, 4),)


class ModelOutput(dict):  # as transformers': a mapping with attributes
    @property
    def logits(self) -> Any:
        return self["logits"]


WRONG = [
    ({"logits": LOGITS}, r'is a dict: pass a tensor, such as output\["logits"\]'),
    ({"out": LOGITS}, r'is a dict: pass a tensor, such as output\["out"\]'),
    (ModelOutput(logits=LOGITS), r"is a ModelOutput: pass a tensor, such as output\.logits"),
    (SimpleNamespace(logits=LOGITS), r"is a SimpleNamespace: .* output\.logits"),
    ((LOGITS, LOGITS), r"is a tuple: .* output\[0\]"),
    ([[0.0, 1.0]], r"is a list: .* torch\.tensor"),
    (np.zeros((2, 3)), r"is a ndarray: .* torch\.from_numpy"),
    (None, r"is None: pass a tensor"),
    (0.5, r"is a float: pass a tensor"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_is_no_tensor_is_refused_in_every_place(wrong: Any, message: str) -> None:
    target = torch.zeros(2, dtype=torch.long)
    for loss in (losses.kd, losses.ldrld, losses.dist, losses.ttm, losses.pkt, losses.rkd, losses.sp):
        with pytest.raises(ValueError, match=f"^student_(logits|embedding|feature) {message}"):
            loss(wrong, LOGITS)
        with pytest.raises(ValueError, match=f"^teacher_(logits|embedding|feature) {message}"):
            loss(LOGITS, wrong)
    with pytest.raises(ValueError, match=f"^target {message}"):
        losses.dkd(LOGITS, LOGITS, wrong)
    with pytest.raises(ValueError, match=f"^student_logits {message}"):
        losses.Standardized(losses.KD())(wrong, LOGITS)
    with pytest.raises(ValueError, match=f"^logits {message}"):
        losses.standardize(wrong)
    with pytest.raises(ValueError, match=f"^teacher_logits_strong {message}"):
        losses.mlkd(LOGITS, LOGITS, LOGITS, wrong)
    with pytest.raises(ValueError, match=f"^student_map {message}"):
        losses.at(wrong, MAPS[0])
    with pytest.raises(ValueError, match=f"^student_logits {message}"):
        losses.uskd(wrong, LOGITS, target)


@pytest.mark.parametrize(
    ("wrong", "message"), [(None, "is None"), (MAPS[0], "is a single tensor"), ({"a": MAPS[0]}, "is a dict")]
)
def test_levels_are_a_tuple(wrong: Any, message: str) -> None:
    for loss in (losses.AT(), losses.NST(), losses.SP()):
        with pytest.raises(ValueError, match=f"^student_(maps|features) {message}: pass a tuple of tensors"):
            loss(wrong, MAPS)
        with pytest.raises(ValueError, match=f"^teacher_(maps|features) {message}"):
            loss(MAPS, wrong)
    with pytest.raises(ValueError, match=f"^student_maps {message}"):
        losses.USKD().connect(wrong, LOGITS)
