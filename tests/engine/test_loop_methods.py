"""The loop with losses that have connectors, memories, stages or a second view."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import stillroom
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, Stopped
from tests.conftest import tiny_model
from tests.engine.test_loop import At, run, same_weights

# Connectors, a memory with its own draws, a learned temperature, two stages, two views.
STATEFUL = (
    "100*fitnet(layer=1) + 0.8*crd(dim=8, negatives=5)",
    "0.1*ce + 0.9*ctkd",
    "50*ft(initial_epochs=1) + kd",
    "0.1*ce + 0.9*mlkd",
)


@pytest.fixture
def teacher():
    torch.manual_seed(5)
    return tiny_model(width=16)


@pytest.mark.parametrize("text", STATEFUL)
@pytest.mark.parametrize("step", [3, 8])
def test_a_stopped_run_goes_on_bit_for_bit_whatever_its_losses_remember(tmp_path, tiny_data, teacher, text, step):
    whole, record = run(tmp_path, tiny_data, teacher, text, name="whole")
    stop = At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, teacher, text, name="cut", reporter=stop)
    resumed, again = run(tmp_path, tiny_data, teacher, text, name="cut")
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [row["terms"] for row in again.epochs()] == [row["terms"] for row in record.epochs()]


def test_connectors_are_trained_and_saved_but_not_exported(tmp_path, tiny_data, teacher):
    text = "100*fitnet(layer=1) + vid"
    _, record = run(tmp_path, tiny_data, teacher, text)
    assert load_file(record.student).keys() == tiny_model().state_dict().keys()
    state = torch.load(record.last, weights_only=True)["method"]
    assert {name.split(".")[1] for name in state} == {"0", "1"}
    _, other = run(tmp_path, tiny_data, teacher, text, name="longer", epochs=4)
    later = torch.load(other.last, weights_only=True)["method"]
    moved = [key for key in state if state[key].is_floating_point() and not torch.equal(state[key], later[key])]
    assert any(key.endswith("weight") for key in moved)
    assert record.epochs()[-1]["terms"]["fitnet"] < record.epochs()[0]["terms"]["fitnet"]


def test_the_models_get_their_hooks_off_when_the_run_ends_or_stops(tmp_path, tiny_data, teacher):
    student, _ = run(tmp_path, tiny_data, teacher, "kd + at + rkd")
    stop = At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, teacher, "kd + at + rkd", name="cut", reporter=stop)
    for model in (student, teacher):
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_initial_stage_trains_nothing_else_and_then_lets_the_teacher_go(tmp_path, tiny_data):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.seen = tiny_model(width=16), 0

        def forward(self, images):
            self.seen += 1
            return self.inner(images)

    torch.manual_seed(5)
    teacher = Counting()
    _, record = run(tmp_path, tiny_data, teacher, "ab(initial_epochs=1)", epochs=1 + 2)
    first, second, third = (row["terms"] for row in record.epochs())
    assert first["ce"] == 0
    assert first["ab"] > 0
    assert second["ab"] == third["ab"] == 0
    assert second["ce"] > 0
    seen = teacher.seen
    _, _ = run(tmp_path, tiny_data, teacher, "ab(initial_epochs=1)", epochs=1 + 9, name="longer")
    assert teacher.seen - seen == seen  # the nine further epochs asked it nothing


def test_an_initial_stage_as_long_as_the_run_is_refused_before_it_begins(tmp_path, tiny_data, teacher):
    with pytest.raises(InputError, match="initial stage takes 30 of 3 epochs"):
        run(tmp_path, tiny_data, teacher, "ft")
    assert not (tmp_path / "run").exists()


def test_a_method_object_starts_afresh_in_every_run(tmp_path, tiny_data, teacher):
    from stillroom.methods import parse_method

    method = parse_method("0.1*ce + 0.9*ctkd + cc(dim=4)")
    before = {key: value.clone() for key, value in method.state_dict().items()}
    one, _ = run(tmp_path, tiny_data, teacher, method, name="a")
    two, _ = run(tmp_path, tiny_data, teacher, method, name="b")
    assert same_weights(one.state_dict(), two.state_dict())
    assert same_weights(before, method.state_dict())


def test_simkd_exports_the_student_with_projector_and_the_teachers_classifier(tmp_path, tiny_data, teacher):
    student, record = run(tmp_path, tiny_data, teacher, "simkd", epochs=6)
    assert record.epochs()[-1]["terms"]["simkd"] < record.epochs()[0]["terms"]["simkd"]
    saved = load_file(record.student)
    torch.testing.assert_close(saved["head.weight"], teacher[-1].weight, rtol=0, atol=0)
    assert any(key.startswith("projector.") for key in saved)
    images = torch.randn(3, 3, 8, 8)
    assert student(images).shape == (3, 4)
    result = stillroom.evaluate(model=student, data=tiny_data)
    assert result.top1 == pytest.approx(record.summary()["last"]["val_top1"])


def test_a_finished_simkd_run_is_a_model_again(tmp_path, tiny_data):
    settings = {"epochs": 2, "batch_size": 16, "runs": str(tmp_path), "accelerator": "cpu", "precision": "32"}
    student, record = stillroom.distill(
        teacher=tiny_model(width=16), student="tests.conftest:tiny_model", data=tiny_data, method="simkd", name="s",
        **settings,
    )  # fmt: skip
    again = stillroom.evaluate(model=str(record.path), data=tiny_data, trust=True)
    assert again.top1 == pytest.approx(stillroom.evaluate(model=student, data=tiny_data).top1)
    assert RunFolder(record.path).config()["reused_head"]["factor"] == 2
    resumed, _ = stillroom.distill(
        teacher=str(record.path), student="tests.conftest:tiny_model", data=tiny_data, method="kd", name="next",
        **settings,
    )  # fmt: skip
    assert isinstance(resumed, nn.Module)
    _, further = stillroom.distill(
        teacher=str(record.path),
        student=str(record.path),
        data=tiny_data,
        method="kd",
        name="further",
        trust=True,
        **settings,
    )
    last = further.summary()["last"]["val_top1"]
    assert stillroom.evaluate(model=str(further.path), data=tiny_data, trust=True).top1 == pytest.approx(last)
