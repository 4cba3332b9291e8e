"""Another experiment's run is never taken for this one: everything that decides a result is changed, one by one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import stillroom
from stillroom.config import make_recipe
from stillroom.data import Augment, DataSet, ImageSet
from stillroom.errors import InputError, Stopped
from stillroom.fingerprint import tensors_digest
from stillroom.methods import Method, Term
from stillroom.models import ZOO, save_weights
from stillroom.prepare.prepare import prepare
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.device import make_machine
from stillroom.runtime.reporters import Silent
from stillroom.trust import Trust
from tests.conftest import tiny_model, tiny_set
from tests.engine.test_loop import At

FAST = {"epochs": 1, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "precision": "32"}


class Own(nn.Module):
    """A loss whose repr says nothing about it."""

    def __init__(self, margin=0.1, extra=None):
        super().__init__()
        self.margin, self.extra = margin, extra

    def forward(self, student_logits, teacher_logits):
        return F.relu((student_logits - teacher_logits).abs() - self.margin).mean()


def seeded(seed, width=8):
    torch.manual_seed(seed)
    return tiny_model(width=width)


class Opening:
    """Opens the same run folder again and again, without training: the first time begins the run."""

    def __init__(self, folder, data):
        self.folder, self.said, self.reporter = folder, [], Silent()
        self.given = {"data": data, "student": seeded(1), "teacher": seeded(2, width=16), "method": None}
        self.text = {"data": "tiny", "student": "s", "teacher": "t", "method": "kd"}
        self.reporter.say = self.said.append

    def __call__(self, given=(), **settings):
        given = {**self.given, **dict(given)}
        text = self.text | ({} if given["method"] is None else {"method": given["method"].text})
        recipe = make_recipe("distill", {**FAST, **text, "runs": str(self.folder), "name": "run", **settings})
        given = {key: None if key in settings else value for key, value in given.items()}
        machine = make_machine("cpu", recipe.run.precision)
        with torch.random.fork_rng():
            return prepare(recipe, Inputs(**given, trust=Trust(files=True)), self.reporter, machine)

    def assert_refused(self, match, given=(), **settings):
        with pytest.raises(InputError, match=match) as refusal:
            self(given, **settings)
        assert "name=" in str(refusal.value)
        assert "\n" not in str(refusal.value)


@pytest.fixture
def opening(tmp_path, tiny_data):
    return Opening(tmp_path, tiny_data)


def test_the_same_loss_gives_the_record_back_and_another_margin_does_not(tmp_path, tiny_data):
    def distil(margin, name="run"):
        return stillroom.distill(
            teacher=seeded(2), student=seeded(1), data=tiny_data, method=Own(margin), runs=str(tmp_path), name=name,
            **FAST,
        )  # fmt: skip

    student, record = distil(0.1)
    stamp = record.student.stat().st_mtime_ns
    again, _ = distil(0.1)
    assert all(torch.equal(one, other) for one, other in zip(student.parameters(), again.parameters(), strict=True))
    assert record.student.stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match=r"method: own: attribute margin '0\.1' there, '50' now.*name="):
        distil(50)
    assert distil(50, "other")[1].epochs()[0]["loss"] != record.epochs()[0]["loss"]


def test_the_same_module_may_come_back_to_the_run_that_trained_it(tmp_path, tiny_data):
    student, where = seeded(1), {"data": tiny_data, "runs": str(tmp_path), "name": "run", **FAST}
    recipe = make_recipe("train", {**where, "model": "m", "data": "tiny"})
    with pytest.raises(Stopped):
        stillroom.api.run_recipe(recipe, At(2, lambda: _stop()), Inputs(student=student, data=tiny_data))
    resumed, record = stillroom.api.run_recipe(recipe, Silent(), Inputs(student=student, data=tiny_data))
    assert resumed is student
    assert record.finished
    stillroom.api.run_recipe(recipe, Silent(), Inputs(student=student, data=tiny_data))
    with torch.no_grad():
        student[0].bias.add_(1)
    with pytest.raises(InputError, match=r"student: weights .* changes as it is used: build it anew.*name="):
        stillroom.api.run_recipe(recipe, Silent(), Inputs(student=student, data=tiny_data))


def _stop():
    import os
    import signal

    os.kill(os.getpid(), signal.SIGTERM)


def test_students_that_begin_otherwise_are_other_runs(opening):
    opening()
    opening({"student": seeded(1)})
    frozen = seeded(1)
    frozen[0].weight.requires_grad_(False)
    tuned = seeded(1)
    tuned[1].eps = 1e-3
    cloned = seeded(1)
    cloned[6].bias = nn.Parameter(cloned[6].bias.clone())
    hooked = seeded(1)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    opening({"student": cloned})  # equal, though not the same tensors
    opening.assert_refused("student: weights", {"student": seeded(3)})
    for other in (frozen, tuned, hooked):
        opening.assert_refused("student: layers", {"student": other})
    opening.assert_refused("student: (class|code|layers)", {"student": nn.Sequential(*seeded(1), nn.Identity())})


@pytest.mark.parametrize(
    ("one", "other", "match"),
    [
        (lambda: Own(extra=lambda x: 2 * x), lambda: Own(extra=lambda x: 3 * x), "own: attribute extra"),
        (lambda: Own(extra=[torch.zeros(2)]), lambda: Own(extra=[torch.ones(2)]), "own: attribute extra"),
        (lambda: Method([Term(Own(), 2.0)], text="m"), lambda: Method([Term(Own(), 3.0)], text="m"), "own: weight"),
        (lambda: Method([Term(Own(), warmup=1)], text="m"), lambda: Method([Term(Own())], text="m"), "own: warmup"),
        (lambda: Method([Term(Own())], ce=1.0, text="m"), lambda: Method([Term(Own())], ce=2.0, text="m"), "ce"),
    ],
)
def test_losses_that_compute_something_else_are_other_runs(opening, one, other, match):
    def made(build):
        loss = build()
        return {"method": loss if isinstance(loss, Method) else Method([Term(loss)], text="m")}

    opening(made(one))
    opening(made(one))
    opening.assert_refused(match, made(other))


@pytest.mark.parametrize("finished", [False, True])
def test_what_cannot_be_compared_is_never_taken_for_equal(opening, finished):
    def method():
        return Method([Term(Own(extra=threading.Lock()))], text="m")  # it can be neither copied nor compared

    job = opening({"method": method()})
    if finished:
        job.run.write_summary({})
    opening.assert_refused(r"cannot be compared.*method\.Own\.extra \(lock\)", {"method": method()})


def test_images_labels_classes_and_augmentation_belong_to_the_run(opening, tiny_data):
    opening()
    train, val = tiny_data.train, tiny_data.val
    turned = torch.arange(len(train)).flip(0)
    swapped = [1, 0, 2, 3]  # red and green exchanged, in both splits
    relabelled = [replace(part, labels=torch.tensor(swapped)[part.labels]) for part in (train, val)]
    pixel = val.images.clone()
    pixel[-1, -1, -1, -1] ^= 1
    for match, change in (
        ("data: training labels", {"train": relabelled[0], "val": relabelled[1]}),
        ("data: validation labels", {"val": relabelled[1]}),
        ("data: training images", {"train": replace(train, images=train.images[turned])}),
        ("data: validation images", {"val": replace(val, images=pixel)}),
        ("classes", {"train": replace(train, classes=tuple("abcd")), "val": replace(val, classes=tuple("abcd"))}),
        ("flip", {"augment": Augment(pad=1, flip=False)}),
        ("mean", {"mean": (0.4, 0.5, 0.5)}),
    ):
        opening.assert_refused(match, {"data": replace(tiny_data, **change)})
    same = DataSet("tiny", tiny_set(20), tiny_set(10, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1))
    opening({"data": same})


def test_another_file_under_the_same_name_is_another_beginning(opening, tmp_path):
    torch.manual_seed(3)
    begin = {"student": "resnet8", "student_checkpoint": str(tmp_path / "begin.safetensors"), "pad": 1}
    save_weights(ZOO["resnet8"](4), begin["student_checkpoint"], {})
    opening(**begin)
    opening(**begin)
    save_weights(ZOO["resnet8"](4), begin["student_checkpoint"], {})
    opening.assert_refused("student: weights", **begin)


def test_random_initial_weights_of_a_named_model_are_no_part_of_the_run(opening, monkeypatch):
    first = opening(student="resnet8")
    seed = torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda number: seed(number + 1))  # as on another processor
    again = opening(student="resnet8")
    assert again.run.path == first.run.path
    assert not torch.equal(*(next(job.student.parameters()) for job in (first, again)))


MODULE = """
from torch import nn
SCALE = 1.0
def helper(x):
    return SCALE * x
class Base(nn.Module):
    power = 2
class Loss(Base):
    def __init__(self, margin=0.1):
        super().__init__()
        self.margin = margin
        self.inside = nn.Linear(4, 4)
    def forward(self, student_logits, teacher_logits):
        return helper(self.inside(student_logits - teacher_logits).abs() ** self.power).mean() + self.margin
def network(num_classes):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
"""


def test_edited_source_is_noticed_and_a_comment_is_not(opening, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "identity_own.py"
    named = {"method": "ce + 2*identity_own.Loss(margin=0.1)", "student": "identity_own:network"}

    def edited(old="", new=""):
        file.write_text(MODULE.replace(old, new))
        sys.modules.pop("identity_own", None)
        importlib.invalidate_caches()

    edited()
    opening(**named)
    torch.rand(7)  # the caller's random numbers decide nothing
    edited("SCALE = 1.0", "SCALE = 1.0  # a comment")
    opening(**named)
    for old, new, match in (
        (" + self.margin", " - self.margin", "method: loss: code"),
        ("power = 2", "power = 3", "method: loss: code"),
        ("return SCALE * x", "return SCALE + x", "method: loss: code"),
        ("SCALE = 1.0", "SCALE = 2.0", "method: loss: code"),
        ("nn.Flatten(),", "nn.Flatten(), nn.Tanh(),", "student: "),
    ):
        edited(old, new)
        opening.assert_refused(match, **named)
    monkeypatch.delitem(sys.modules, "identity_own")


def test_a_run_with_own_objects_goes_on_in_another_process(opening, tmp_path):
    opening({"method": Method([Term(Own(extra=set("another") | {3, ("x", 1)}))], text="m")})
    code = """
import sys
from pathlib import Path
from stillroom.data import Augment, DataSet, ImageSet
from stillroom.methods import Method, Term
from tests.conftest import tiny_set
from tests.prepare.test_run_identity import Opening, Own
data = DataSet("tiny", tiny_set(20), tiny_set(10, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1))
Opening(Path(sys.argv[1]), data)({"method": Method([Term(Own(extra={("x", 1), 3} | set("rehtona")))], text="m")})
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_run_of_an_older_version_is_refused_in_one_line(opening):
    run = opening().run
    inputs = json.loads((run.path / "inputs.json").read_text())
    for other in ({}, {"identity": None}, {"identity": {"format": 0}}):
        (run.path / "inputs.json").write_text(json.dumps({k: v for k, v in inputs.items() if k != "identity"} | other))
        opening.assert_refused("another version of Stillroom")


def test_pixels_ids_and_shapes_are_in_the_fingerprint_of_images():
    def digest(*sets):
        return tensors_digest(*(tensor for one in sets for tensor in (one.images, one.ids)))

    images = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(6).long(), torch.arange(6), ("a", "b"))
    pixel, ids = images.clone(), torch.arange(6)
    pixel[5, 2, 3, 3] ^= 1
    ids[5] = 9
    others = [replace(data, images=pixel), replace(data, ids=ids), replace(data, images=images.view(6, 3, 2, 8))]
    prints = {digest(one) for one in (data, *others)} | {digest(data, data)}
    assert len(prints) == 5
    assert digest(replace(data, images=images.clone(), ids=torch.arange(6))) == digest(data)
    assert digest(replace(data, labels=torch.ones(6).long())) == digest(data)
