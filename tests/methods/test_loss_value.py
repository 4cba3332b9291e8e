from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.batch import Output
from stillroom.errors import InputError
from stillroom.methods import Method, Term


class Returns(nn.Module):
    """A loss that returns whatever it was given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, student_logits):
        return self.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"loss Returns returned None: .*is a return missing"),
        (0, r"loss Returns returned 0: return a tensor of one number"),
        (0.5, r"loss Returns returned 0\.5"),
        ({"loss": torch.zeros(())}, r"loss Returns returned a dict"),
        (torch.zeros(6), r"loss Returns returned shape \(6,\): return one number, such as loss\.mean\(\)"),
        (torch.zeros(1), r"loss Returns returned shape \(1,\)"),
        (torch.tensor(3), r"loss Returns returned dtype torch\.int64"),
    ],
)
def test_a_result_that_is_no_floating_scalar_is_refused_and_the_loss_named(value, message):
    method = Method([Term(Returns(value))])
    with pytest.raises(InputError, match=message):
        method(Output(torch.zeros(6, 10)), None, torch.zeros(6, dtype=torch.long))
    with pytest.raises(InputError, match=message):
        method.check(10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_half_loss_is_summed_in_float32(dtype):
    term = Method([Term(Returns(torch.tensor(2.0, dtype=dtype)), weight=1e6)])
    value = term(Output(torch.zeros(6, 10)), None, torch.zeros(6, dtype=torch.long))["returns"]
    assert (value.dtype, float(value)) == (torch.float32, 2e6)
