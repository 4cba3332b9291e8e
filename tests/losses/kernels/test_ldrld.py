"""The closed form equals the plain computation beside it, value and gradient."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillroom.losses.kernels import ldrld as kernel
from stillroom.losses.kernels.class_choice import CHOOSERS, Chooser
from stillroom.losses.logit.ldrld_settings import adaptive_decay_weights
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make


@QUICK
@given(
    data=logits(scales=(0.1, 5.0, 1e4)),
    depth=st.integers(2, 12),
    weights=st.tuples(
        st.floats(0, 5), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 2.0]), st.sampled_from([0.0, 0.5])
    ),
    reduction=st.sampled_from(["mean", "none"]),
    chosen_by=st.sampled_from(CHOOSERS),
)
def test_closed_form_equals_autograd(
    data: Logits,
    depth: int,
    weights: tuple[float, float, float, float],
    reduction: Literal["mean", "none"],
    chosen_by: Chooser,
) -> None:
    table = weights[0] * adaptive_decay_weights(min(depth, data.student.shape[1]))
    table.fill_diagonal_(weights[1])
    student = data.student.requires_grad_()
    results = []
    for run in (kernel.ldrld_closed_form, kernel.ldrld_reference):
        loss = run(
            student, data.teacher, table, weights[2], 3.0, reduction, chosen_by=chosen_by, mass_weight=weights[3]
        )
        pull = torch.linspace(-1.0, 2.0, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
        results.append((loss.detach(), gradient_of((pull * loss).sum(), student)))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_forward_saves_one_tensor(reduction: Literal["mean", "none"]) -> None:
    data, table = make(8, 50, seed=2), adaptive_decay_weights(7)
    saved: list[torch.Size] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kernel.ldrld_closed_form(data.student.requires_grad_(), data.teacher, table, 1.0, 4.0, reduction)
    assert saved == [torch.Size([8, 50])]
