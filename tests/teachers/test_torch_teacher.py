"""A network as a teacher: its own input, its mode, its parts."""

import pytest
import torch
from torch import nn

from stillroom.data import Loader
from stillroom.input_format import InputFormat, InputTransform
from stillroom.runtime.device import make_machine
from stillroom.teachers.teacher import Teacher
from stillroom.teachers.torch_teacher import TorchTeacher
from tests.conftest import tiny_model

OWN = InputFormat((0.2, 0.3, 0.4), (0.5, 0.6, 0.7), (20, 20), "bilinear")


def batch_of(data, strong=False):
    given = {"batch_size": 8, "shuffle": True, "augment": data.augment, "strong": strong}
    return next(Loader(data.train, input_format=data.input_format, **given).epoch(1))


def made(model, wanted, data):
    return TorchTeacher(model, input_format=wanted, shares_input=wanted == data.input_format, class_count=4)


def test_a_network_is_a_teacher(tiny_data):
    assert isinstance(made(tiny_model(), OWN, tiny_data), Teacher)


def test_it_takes_the_same_view_in_its_own_format(tiny_data):
    model, batch = tiny_model().eval(), batch_of(tiny_data, strong=True)
    output = made(model, OWN, tiny_data).predict(batch)
    for logits, pixels in ((output.logits, batch.pixels), (output.parts["logits_strong"], batch.strong_pixels)):
        with torch.no_grad():
            assert torch.equal(logits, model(InputTransform(OWN)(pixels)))


def test_with_the_students_format_it_takes_the_students_images(tiny_data):
    model, batch = tiny_model().eval(), batch_of(tiny_data)
    with torch.no_grad():
        assert torch.equal(made(model, tiny_data.input_format, tiny_data).predict(batch).logits, model(batch.images))


def test_its_mode_is_restored_and_batch_norms_stay(tiny_data):
    model = tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made(model, OWN, tiny_data).predict(batch_of(tiny_data))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("precision", "tolerance"), [("32", 1e-5), ("bf16", 2e-2)])
def test_placed_it_predicts_the_same_within_the_precision(tiny_data, precision, tolerance):
    model, batch = tiny_model().eval(), batch_of(tiny_data)
    teacher = made(model, OWN, tiny_data)
    before = teacher.predict(batch).logits
    teacher.place(make_machine("cpu", precision), batch.pixels[:2], layout=torch.channels_last)
    after = teacher.predict(batch).logits
    assert after.dtype == torch.float32
    assert torch.allclose(after, before, atol=tolerance * float(before.abs().max()))


def test_another_number_of_channels_than_three(tiny_data):
    wanted = InputFormat((0.5,), (0.5,), (6, 6))
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    pixels = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    batch = batch_of(tiny_data)
    batch = type(batch)(pixels.float(), batch.labels[:3], batch.ids[:3], pixels=pixels)
    assert made(model, wanted, tiny_data).predict(batch).logits.shape == (3, 4)
