from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

import stillroom
from stillroom.api import run_recipe
from stillroom.config import make_recipe
from stillroom.engine import loaders
from stillroom.engine.loop import Loop
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.methods import Method, Term
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from stillroom.tasks import classification
from stillroom.tasks.classification_score import Evaluation
from tests.conftest import tiny_model

SETTINGS = {
    "data": "tiny", "epochs": 3, "batch_size": 16, "lr": 0.1, "pad": 1, "precision": "32", "accelerator": "cpu",
}  # fmt: skip


class At(Silent):
    """Does something once, after a given step of the whole run."""

    def __init__(self, step, act):
        self.left, self.act = step, act

    def step(self, epoch, images, values):
        self.left -= 1
        if self.left == 0:
            self.act()


@pytest.fixture
def teacher():
    torch.manual_seed(5)
    return tiny_model(width=16)


def run(tmp_path, data, teacher=None, method=None, reporter=None, name="run", **settings):
    torch.manual_seed(11)
    student = tiny_model()
    command = "distill" if teacher is not None else "train"
    made = method if isinstance(method, Method) else None
    text = made.text if made else method or "ldrld(depth=3)"
    models = {"teacher": "t", "student": "s", "method": text} if teacher else {"model": "m"}
    recipe = make_recipe(command, {**SETTINGS, **models, "runs": str(tmp_path), "name": name, **settings})
    inputs = Inputs(teacher=teacher, student=student, data=data, method=made)
    return run_recipe(recipe, reporter or Silent(), inputs)


def same_weights(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def test_training_on_labels_learns_and_records_every_epoch(tmp_path, tiny_data):
    student, record = run(tmp_path, tiny_data, epochs=6)
    rows = record.epochs()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert record.summary()["last"]["val_top1"] > 60  # chance is 25
    assert record.summary()["best"]["val_top1"] == max(row["val_top1"] for row in rows)
    assert rows[0]["terms"].keys() == {"ce"}
    assert rows[0]["agreement"] is None
    assert not student.training


def test_the_recorded_accuracy_is_the_returned_models(tmp_path, tiny_data):
    student, record = run(tmp_path, tiny_data)
    result = stillroom.evaluate(model=student, data=tiny_data)
    assert result.top1 == pytest.approx(record.summary()["last"]["val_top1"])
    assert result.count == 40


def test_distilling_leaves_the_teacher_as_it_was(tmp_path, tiny_data, teacher):
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    _, record = run(tmp_path, tiny_data, teacher)
    assert same_weights(before, teacher.state_dict())
    assert record.epochs()[0]["terms"].keys() == {"ce", "ldrld"}
    assert 0 <= record.summary()["last"]["agreement"] <= 100


def test_a_student_learns_from_the_teacher_alone(tmp_path, tiny_data):
    skilled, _ = run(tmp_path, tiny_data, epochs=8, name="teacher")
    _, record = run(tmp_path, tiny_data, skilled, "0*ce + 1*kd", name="student", epochs=8)
    assert record.summary()["last"]["agreement"] > 60


def test_two_equal_runs_end_with_equal_weights_and_another_seed_does_not(tmp_path, tiny_data, teacher):
    one, _ = run(tmp_path, tiny_data, teacher, name="a")
    two, _ = run(tmp_path, tiny_data, teacher, name="b")
    other, _ = run(tmp_path, tiny_data, teacher, name="c", seed=1)
    assert same_weights(one.state_dict(), two.state_dict())
    assert not same_weights(one.state_dict(), other.state_dict())


@pytest.fixture
def heeded_hangup():
    """A hangup is heeded, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGINT, 3), (signal.SIGTERM, 5), (signal.SIGHUP, 8)])
@pytest.mark.usefixtures("heeded_hangup")
def test_a_stop_request_saves_and_the_run_goes_on_bit_for_bit(tmp_path, tiny_data, teacher, number, step):
    whole, record = run(tmp_path, tiny_data, teacher, name="whole")
    twice = At(step, lambda: [os.kill(os.getpid(), number) for _ in range(2)])  # as a scheduler and a launcher do
    with pytest.raises(Stopped, match="same command goes on") as stopped:
        run(tmp_path, tiny_data, teacher, name="cut", reporter=twice)
    assert stopped.value.signal_number == number
    resumed, again = run(tmp_path, tiny_data, teacher, name="cut")
    assert same_weights(whole.state_dict(), resumed.state_dict())
    drop = {"seconds", "bank_seconds", "images_per_second"}
    assert [{k: v for k, v in row.items() if k not in drop} for row in again.epochs()] == [
        {k: v for k, v in row.items() if k not in drop} for row in record.epochs()
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.conftest import tiny_model, tiny_set
from tests.engine.test_loop import At, run
from stillroom.data import Augment, DataSet
from stillroom.runtime.reporters import Silent
data = DataSet("tiny", tiny_set(20), tiny_set(10, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1))
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
run(Path(sys.argv[1]), data, optimizer="adamw", reporter=At(int(sys.argv[2]), kill))
"""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, tiny_data):
    whole, _ = run(tmp_path, tiny_data, name="whole", optimizer="adamw")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), "8"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(RunFolder(tmp_path / "run").epochs()) == 1
    resumed, record = run(tmp_path, tiny_data, optimizer="adamw")
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [row["epoch"] for row in record.epochs()] == [1, 2, 3]


def test_a_finished_run_is_used_and_not_trained_again(tmp_path, tiny_data):
    one, record = run(tmp_path, tiny_data)
    stamp = record.student.stat().st_mtime_ns
    left = [record.path / ".lock", record.path / ".summary.json.0123abcd.tmp"]  # by a kill behind the summary
    for file in left:
        file.touch()
    two, _ = run(tmp_path, tiny_data, reporter=At(1, lambda: pytest.fail("it trained again")))
    assert same_weights(one.state_dict(), two.state_dict())
    assert record.student.stat().st_mtime_ns == stamp
    assert not [file for file in left if file.exists()]


def test_other_settings_in_the_same_folder_are_refused(tmp_path, tiny_data, teacher):
    run(tmp_path, tiny_data, teacher)
    with pytest.raises(InputError, match="lr"):
        run(tmp_path, tiny_data, teacher, lr=0.2)
    with torch.no_grad():
        teacher[0].weight.add_(1)
    with pytest.raises(InputError, match="teacher_weights"):
        run(tmp_path, tiny_data, teacher)


class Bomb(nn.Module):
    """Turns infinite at its n-th call."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, student_logits, target):
        self.calls -= 1
        loss = F.cross_entropy(student_logits, target)
        return loss * float("inf") if self.calls == 0 else loss


def test_an_infinite_loss_stops_with_step_term_and_checkpoint(tmp_path, tiny_data, teacher):
    method = Method([Term(Bomb(5 + 3))])  # the run has 5 steps an epoch
    with pytest.raises(Diverged, match=r"'bomb' became inf in epoch 2, step 3 of 5.*last\.pt"):
        run(tmp_path, tiny_data, teacher, method)
    state = torch.load(tmp_path / "run" / "checkpoint" / "last.pt", weights_only=True)
    assert state["progress"]["epoch"] == 2
    assert all(value.isfinite().all() for value in state["student"].values())


def test_a_bad_loss_that_was_not_looked_at_yet_reaches_no_checkpoint(tmp_path, tiny_data, monkeypatch):
    loops = []
    make = Loop.__init__
    monkeypatch.setattr(Loop, "__init__", lambda self, *inputs: (loops.append(self), make(self, *inputs))[1])

    def spoil_and_stop():  # as on a GPU, where losses are looked at every 50 steps
        loops[0].progress.losses[loops[0].progress.step - 1] = float("nan")
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Diverged, match="'ce' became nan in epoch 2, step 3 of 5"):
        run(tmp_path, tiny_data, reporter=At(8, spoil_and_stop))
    progress = torch.load(tmp_path / "run" / "checkpoint" / "last.pt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) == (2, 0)


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(_, loss):
        return loss.clone()

    @staticmethod
    def backward(_, gradient):
        return gradient * float("nan")


class Saboteur(nn.Module):
    """Has a finite loss always, and a gradient that is none at its n-th call."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def forward(self, student_logits, target):
        self.calls -= 1
        loss = F.cross_entropy(student_logits, target)
        return BadGradient.apply(loss) if self.calls == 0 else loss


@pytest.mark.parametrize("step", [10, 15])  # the last of the second epoch, and of the whole run
def test_a_bad_gradient_in_the_last_step_of_an_epoch_reaches_no_file(tmp_path, tiny_data, teacher, step):
    method = Method([Term(Saboteur(step))])
    with pytest.raises(Diverged, match=rf"student '0.weight' became nan in epoch {step // 5}, step 5 of 5.*last\.pt"):
        run(tmp_path, tiny_data, teacher, method)
    record = RunFolder(tmp_path / "run")
    state = torch.load(record.last, weights_only=True)
    assert state["progress"]["epoch"] == step // 5
    assert all(value.isfinite().all() for value in state["student"].values())
    assert len(record.epochs()) == step // 5 - 1
    assert all(value.isfinite().all() for value in load_file(record.best).values())
    assert not record.student.exists()


def test_a_validation_loss_that_is_no_number_is_no_result(tmp_path, tiny_data, monkeypatch):
    monkeypatch.setattr(classification, "score", lambda *_: Evaluation(50.0, 90.0, float("nan"), 40))
    with pytest.raises(Diverged, match=r"the validation loss became nan in epoch 1.*no checkpoint was saved"):
        run(tmp_path, tiny_data)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_best_weights_are_never_those_of_an_epoch_that_was_lost(tmp_path, tiny_data, monkeypatch):
    """A GPU or another number of processes gives other numbers when epochs are trained again."""
    accuracies, states = [50.0, 40.0, 30.0, 90.0, 95.0], []
    monkeypatch.setattr(classification, "score", lambda *_: Evaluation(accuracies.pop(0), 99.0, 1.0, 40))

    class Dying(Silent):
        def epoch(self, row):
            states.append(load_file(RunFolder(tmp_path / "run").candidate) if row["epoch"] == 1 else None)
            if row["epoch"] == 5:
                raise OSError("as if killed")

    settings = {"epochs": 6, "checkpoint_every": 3, "export": "best"}
    with pytest.raises(OSError, match="as if killed"):
        run(tmp_path, tiny_data, reporter=Dying(), **settings)
    accuracies += [45.0, 45.0, 45.0]
    student, record = run(tmp_path, tiny_data, **settings)
    assert record.summary()["best"]["epoch"] == 1
    assert same_weights(student.state_dict(), states[0])


def test_a_checkpoint_of_another_version_or_another_model_is_one_error(tmp_path, tiny_data):
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, reporter=At(3, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    last = tmp_path / "run" / "checkpoint" / "last.pt"
    state = torch.load(last, weights_only=True)
    for change, words in (
        ({"format": 99, "stillroom": "9.9"}, "was written by Stillroom 9.9.*continue with that version"),
        ({"format": None, "stillroom": None}, "was written by an earlier version"),
        ({"progress": state["progress"] | {"mood": 1}}, "does not fit this run .*delete it"),
        ({"student": {}}, "does not fit this run .*delete it"),
    ):
        torch.save(state | change, last)
        with pytest.raises(InputError, match=words):
            run(tmp_path, tiny_data)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "nesterov": True, "checkpoint_every": 3, "export": "best"},
        {"optimizer": "adamw", "checkpoint_every": 2, "precision": "bf16"},
    ],
)
def test_a_stop_in_the_validation_is_seen_at_once_and_goes_on_bit_for_bit(tmp_path, tiny_data, settings, monkeypatch):
    monkeypatch.setattr(loaders, "val_batch", lambda *_: 16)  # three batches
    trained = []

    def ask_in_second_validation(module, _):
        if type(module) is nn.Linear and module.training:
            trained.append(module)
        elif type(module) is nn.Linear and len(trained) == 10:
            trained.append(None)
            os.kill(os.getpid(), signal.SIGTERM)

    whole, record = run(tmp_path, tiny_data, name="whole", epochs=4, **settings)
    hook = register_module_forward_pre_hook(ask_in_second_validation)
    with hook, pytest.raises(Stopped, match="epoch 2 after step 5"):
        run(tmp_path, tiny_data, name="cut", epochs=4, **settings)
    resumed, again = run(tmp_path, tiny_data, name="cut", epochs=4, **settings)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [row["val_loss"] for row in again.epochs()] == [row["val_loss"] for row in record.epochs()]


def test_a_run_goes_on_with_another_number_of_threads_up_to_rounding(tmp_path, tiny_data, teacher):
    whole, _ = run(tmp_path, tiny_data, teacher, name="whole")
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, teacher, reporter=At(8, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    torch.set_num_threads(2)
    try:
        resumed, _ = run(tmp_path, tiny_data, teacher)
    finally:
        torch.set_num_threads(1)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


def test_a_device_with_too_little_memory_for_a_step_is_one_error(tmp_path, tiny_data):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(InputError, match=r"batch_size=16: cpu has too little memory .*2\.00 GiB.*lower batch_size"):
        run(tmp_path, tiny_data, reporter=At(3, full))


def place_of(model):
    modules = [(m.training, len(m._forward_hooks) + len(m._forward_pre_hooks)) for m in model.modules()]
    tensors = [(value.device, value.stride()) for value in model.state_dict(keep_vars=True).values()]
    return modules, tensors, [parameter.requires_grad for parameter in model.parameters()]


@pytest.mark.parametrize("end", ["finished", "stopped", "diverged", "failed"])
def test_the_users_models_leave_as_they_came(tmp_path, tiny_data, teacher, end):
    acts = {"stopped": lambda: os.kill(os.getpid(), signal.SIGTERM), "failed": lambda: {}["failed"]}
    student = tiny_model()
    teacher.train()
    teacher[1].eval()
    before = place_of(teacher), place_of(student)
    settings = {**SETTINGS, "teacher": "t", "student": "s", "runs": str(tmp_path)}
    settings |= {"method": "1e30*simkd" if end == "diverged" else "simkd", "lr": 1e9 if end == "diverged" else 0.1}
    reporter = At(3, acts[end]) if end in acts else Silent()
    inputs = Inputs(teacher=teacher, student=student, data=tiny_data)
    expected = {"stopped": Stopped, "diverged": Diverged, "failed": KeyError}
    with pytest.raises(expected[end]) if end in expected else nullcontext():
        trained, record = run_recipe(make_recipe("distill", settings), reporter, inputs)
    assert place_of(teacher) == before[0]
    if end != "finished":
        assert place_of(student) == before[1]
        return
    student.train()  # what is returned is in evaluation mode
    assert place_of(student) == before[1]
    assert stillroom.evaluate(model=trained, data=tiny_data).top1 == record.summary()["last"]["val_top1"]


def test_the_best_epoch_can_be_exported(tmp_path, tiny_data):
    student, record = run(tmp_path, tiny_data, export="best", lr=0.5, milestones=[])
    result = stillroom.evaluate(model=student, data=tiny_data)
    assert result.top1 == pytest.approx(record.summary()["best"]["val_top1"])


def test_an_untrained_teacher_is_called_out(tmp_path, tiny_data):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.arange(4.0))

        def forward(self, images):
            return self.bias.expand(len(images), 4)

    said = []
    reporter = Silent()
    reporter.say = said.append
    run(tmp_path, tiny_data, Constant(), reporter=reporter, epochs=1)
    assert any("teacher's accuracy is 25.0 %" in line for line in said)


@pytest.mark.parametrize(("lr", "warnings"), [(1e-6, 1), (0.1, 0)])
def test_a_student_that_learned_nothing_is_called_out(lr, warnings, tmp_path, tiny_data):
    said = []
    reporter = Silent()
    reporter.say = said.append
    run(tmp_path, tiny_data, reporter=reporter, lr=lr, epochs=6)
    assert len(said) == warnings
    assert all("accuracy ended at" in line and "(chance is 25.0 %)" in line for line in said)


def test_bf16_autocast_trains(tmp_path, tiny_data, teacher):
    _, record = run(tmp_path, tiny_data, teacher, precision="bf16")
    assert record.epochs()[-1]["loss"] < record.epochs()[0]["loss"]


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler here")
def test_compiling_the_student_changes_nothing_that_is_saved(tmp_path, tiny_data):
    plain, _ = run(tmp_path, tiny_data, name="plain", epochs=1)
    stop = At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, name="compiled", epochs=1, compile=True, reporter=stop)
    compiled, _ = run(tmp_path, tiny_data, name="compiled", epochs=1, compile=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()


def test_the_callers_random_numbers_are_untouched(tmp_path, tiny_data):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    recipe = make_recipe("train", {**SETTINGS, "model": "m", "runs": str(tmp_path), "epochs": 1})
    model = tiny_model()
    torch.manual_seed(3)
    run_recipe(recipe, Silent(), Inputs(student=model, data=tiny_data))
    assert torch.equal(torch.rand(2), wanted)
