"""Every method, every kind of connector and losses of one's own in the loop, in float32 and in bf16."""

from __future__ import annotations

import math
import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.errors import InputError, Stopped
from stillroom.methods import PRESETS, Method, Term
from stillroom.models.model_parts import PARTS
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from tests.engine.test_loop import SETTINGS, At, same_weights

both_precisions = pytest.mark.parametrize("precision", ["32", "bf16"])

# Small connectors, and initial stages that end within two epochs.
SMALL = {
    "ft": "ft(initial_epochs=1)",
    "ab": "ab(initial_epochs=1)",
    "fsp": "fsp(initial_epochs=1)",
    "crd": "crd(dim=8, negatives=5)",
    "reviewkd": "reviewkd(mid_channels=8)",
    "cc": "cc(dim=8)",
    "rkd": "rkd",
    "ldrld": "ldrld(depth=3)",
}
EVERY = [*(SMALL.get(name, name) for name in PRESETS), "standardized(kd)", "sdd(standardized(ldrld(depth=3)))"]


class Staged(nn.Module):
    """Two stages before and after their activation, with batch norm and dropout."""

    stages = ("relu1", "relu2")
    preact_stages = ("bn1", "bn2")

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(6, 8, 3, 2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.dropout, self.fc = nn.Dropout(0.1), nn.Linear(8, 4)

    def forward(self, images):
        x = self.relu1(self.bn1(self.conv1(images)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Own(nn.Module):
    """Layers of every usual kind on everything that can be read, none of which knows about precision."""

    def connect(self, student_maps, teacher_maps, student_embedding, teacher_embedding, train_labels):
        mine, theirs = student_maps[-1].shape[1], teacher_maps[-1].shape[1]
        self.conv = nn.Sequential(nn.Conv2d(mine, theirs, 1), nn.BatchNorm2d(theirs))
        self.project = nn.Sequential(
            nn.Linear(student_embedding.shape[1], teacher_embedding.shape[1]),
            nn.BatchNorm1d(teacher_embedding.shape[1]),
            nn.LayerNorm(teacher_embedding.shape[1]),
        )
        self.shift = nn.Embedding(len(train_labels), teacher_embedding.shape[1])
        return self

    def forward(self, student_maps, teacher_maps, student_embedding, teacher_embedding, student_head, ids):
        projected = self.project(student_embedding) + 0.1 * self.shift(ids)
        on_maps = F.mse_loss(self.conv(student_maps[-1]), teacher_maps[-1])
        return on_maps + F.mse_loss(projected, teacher_embedding) + 0.1 * student_head(projected).square().mean()


class Probe(nn.Module):
    """Remembers in what number format everything came, before training and in it."""

    needs = (*(f"{side}_{part}" for side in ("student", "teacher") for part in (*PARTS, "logits", "logits_strong")),)

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def __deepcopy__(self, _memo):
        return Probe(self.seen)

    def connect(self, student_maps, teacher_embedding, student_logits, teacher_logits_strong):
        self.look(list(locals().values())[1:])
        return self

    def forward(self, **given):
        self.look(given.values())
        return given["student_logits"].square().mean()

    def look(self, values):
        for value in values:
            for tensor in value if isinstance(value, tuple) else (value,):
                self.seen.append(tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor))


def run(folder, data, method, precision, name="run", reporter=None, **settings):
    made = method if isinstance(method, Method) else None
    models = {"teacher": "t", "student": "s", "method": made.text if made else method}
    more = {"runs": str(folder), "name": name, "precision": precision, "epochs": 2, "lr": 0.01, **settings}
    recipe = make_recipe("distill", {**SETTINGS, **models, **more})
    inputs = Inputs(teacher=Staged(5), student=Staged(11), data=data, method=made)
    return run_recipe(recipe, reporter or Silent(), inputs)


def own():
    return Method([Term(Own())])


@both_precisions
@pytest.mark.parametrize("text", EVERY)
def test_every_method_trains(tmp_path, tiny_data, text, precision):
    student, record = run(tmp_path, tiny_data, text, precision, batch_size=40)
    rows = record.epochs()
    assert len(rows) == 2
    assert all(math.isfinite(value) for row in rows for value in row["terms"].values())
    assert any(value > 0 for row in rows for name, value in row["terms"].items() if name != "ce")
    state = [*student.state_dict().values(), *torch.load(record.last, weights_only=True)["method"].values()]
    assert {value.dtype for value in state if value.is_floating_point()} == {torch.float32}
    assert all(value.isfinite().all() for value in state)


@both_precisions
def test_layers_of_a_loss_of_ones_own_learn(tmp_path, tiny_data, precision):
    _, record = run(tmp_path, tiny_data, own(), precision, epochs=1, batch_size=40)
    first = torch.load(record.last, weights_only=True)["method"]
    _, record = run(tmp_path, tiny_data, own(), precision, name="longer", milestones=[1])
    later = torch.load(record.last, weights_only=True)["method"]
    learned = [key for key in first if key.endswith("weight")]
    assert len(learned) == 6
    assert not any(torch.equal(first[key], later[key]) for key in learned)


@both_precisions
def test_everything_a_loss_gets_of_the_networks_is_float32(tmp_path, tiny_data, precision):
    seen = []
    run(tmp_path, tiny_data, Method([Term(Probe(seen))]), precision, epochs=1, batch_size=40)
    assert set(seen) == {torch.float32, nn.Linear}


def test_in_bf16_the_networks_still_compute_in_it(tmp_path, tiny_data):
    formats = set()
    student = Staged(11)
    student.bn1.register_forward_hook(lambda _module, _inputs, output: formats.add(output.dtype))
    recipe = make_recipe("train", {**SETTINGS, "model": "m", "runs": str(tmp_path), "epochs": 1, "precision": "bf16"})
    run_recipe(recipe, Silent(), Inputs(student=student, data=tiny_data))
    assert torch.bfloat16 in formats


@both_precisions
@pytest.mark.parametrize(
    "text", ["ab(initial_epochs=1)", "simkd", "sdd(dkd)", "ofd", "reviewkd(mid_channels=8)", "vid", "gkl", "own"]
)
def test_a_run_stopped_twice_goes_on_bit_for_bit(tmp_path, tiny_data, text, precision):
    def method():
        return own() if text == "own" else text

    def stop(step):
        return At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))

    whole, record = run(tmp_path, tiny_data, method(), precision, name="whole")
    for step in (3, 5):  # in the first epoch, which may be an initial stage, and in the second
        with pytest.raises(Stopped):
            run(tmp_path, tiny_data, method(), precision, name="cut", reporter=stop(step))
    resumed, again = run(tmp_path, tiny_data, method(), precision, name="cut")
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [row["terms"] for row in again.epochs()] == [row["terms"] for row in record.epochs()]
    states = [torch.load(each.last, weights_only=True)["method"] for each in (record, again)]
    assert same_weights(*states)


def test_a_loss_that_returns_no_number_is_refused_before_training(tmp_path, tiny_data):
    class PerMap(nn.Module):
        def forward(self, student_maps, teacher_maps):
            return (student_maps[-1] - teacher_maps[-1]).square().mean((1, 2, 3))

    with pytest.raises(InputError, match=r"loss PerMap returned shape .*loss\.mean\(\)"):
        run(tmp_path, tiny_data, Method([Term(PerMap())]), "32")
    assert not (tmp_path / "run").exists()
