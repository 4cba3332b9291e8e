from types import SimpleNamespace

import pytest
import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.models import ZOO, check_output, logits_of

LOGITS = torch.arange(6.0).view(2, 3)


class Answering(nn.Module):
    """Returns whatever it was told to."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        SimpleNamespace(logits=LOGITS, hidden=None),
        {"logits": LOGITS, "loss": 0},
        (LOGITS, torch.zeros(1)),
        [LOGITS],
        (SimpleNamespace(logits=LOGITS), None),
    ],
)
def test_logits_are_found(output):
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize(
    ("output", "named"),
    [
        (None, "NoneType"),
        ({"scores": LOGITS}, "scores"),
        ((), "tuple"),
        ("text", "str"),
        ([None], "NoneType"),
    ],
)
def test_output_without_logits_is_refused_by_what_it_is(output, named):
    with pytest.raises(InputError, match=named):
        logits_of(output)


@pytest.mark.parametrize(
    ("shape", "shown"), [((2, 1000), "(2, 1000)"), ((2, 10, 1, 1), "(2, 10, 1, 1)"), ((20,), "(20,)")]
)
def test_wrong_shape_names_both_shapes(shape, shown):
    with pytest.raises(InputError) as caught:
        check_output(Answering(torch.zeros(shape)), 10, 3, 8)
    assert shown in str(caught.value)
    assert "(2, 10)" in str(caught.value)


def test_the_models_own_error_is_told_in_one_line():
    def fail(_images):
        raise RuntimeError("first reason\nand a long trace")

    with pytest.raises(InputError) as caught:
        check_output(Answering(fail), 10, 1, 8)
    message = str(caught.value)
    assert "(2, 1, 8, 8)" in message
    assert "RuntimeError: first reason" in message
    assert "\n" not in message
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_check_changes_nothing():
    model = ZOO["resnet8"](10)
    model.train()
    model.layer1.eval()  # as someone who freezes a stage would have it
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    check_output(model, 10, 3, 16)
    assert flags == [module.training for module in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_come_back_after_a_failure_too():
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 2))
    with pytest.raises(InputError):
        check_output(model, 2, 3, 8)
    assert all(module.training for module in model.modules())


def test_half_precision_models_get_dataset_of_their_own_kind():
    check_output(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).bfloat16(), 2, 3, 1)
