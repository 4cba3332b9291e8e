"""What the lives do: runs, and trouble at a chosen moment of them."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
from pathlib import Path

import timm  # noqa: F401  slow, so that lives with averaged weights find it imported
import torch
import torchvision.transforms.v2  # noqa: F401  the same for augmentation
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from stillroom import demo as demo_module
from stillroom import evaluate, restore
from stillroom.api import run_recipe
from stillroom.cli import main
from stillroom.config import make_recipe
from stillroom.data import Augment, DataSet
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from stillroom.teachers import bank
from tests.boxed_data import boxed_data
from tests.conftest import tiny_set
from tests.tasks.tiny_detector import tiny_detector

# 80 images, 18 a step: five steps an epoch. The bank's blocks are shortened to 32 images: three an epoch.
SETTINGS = {
    "data": "tiny", "epochs": 4, "batch_size": 18, "lr": 0.05, "schedule": "cosine", "pad": 1, "precision": "32",
    "accelerator": "cpu", "teacher": "t", "student": "tests.durability.work:student", "export": "best",
}  # fmt: skip
METHODS = {  # the first learns its temperature and uses the bank; the second has connectors and a memory
    "logits": "ctkd",
    "features": "kd + 10*fitnet(layer=1) + 0.1*crd(dim=8, negatives=5)",
    "recipe": "0.5*ce + 0.5*ctkd + dkd(warmup=3)",
}


def network(width, seed):
    torch.manual_seed(seed)
    layers = []
    for channels, wider in ((3, width), (width, 2 * width)):
        layers.append(nn.Sequential(nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU()))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * width, 4))


def student(num_classes):
    return network(4, 11)


def distil(folder, method, trouble=None, reporter=None):
    """The whole run, or what is left of it.

    Args:
        folder: for the run and the bank.
        method: a key of METHODS.
        trouble: what happens in it: a kind of trouble and its arguments.
        reporter: told about the run.
    """
    bank.BLOCK = 32
    data = DataSet("tiny", tiny_set(20), tiny_set(11, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1))
    settings = {**SETTINGS, "method": METHODS[method], "runs": folder, "name": "run"}
    if method in ("logits", "recipe"):
        settings["bank"] = str(Path(folder) / "bank")
    if trouble is not None:
        TROUBLES[trouble[0]](*trouble[1:])
    inputs = Inputs(teacher=network(8, 5), student=student(4), data=data)
    run_recipe(make_recipe("distill", settings), reporter or Silent(), inputs)


def distil_detector(folder, trouble=None):
    """A detector's run with a loss on logits and one on maps, three steps an epoch, saved after every second step."""
    settings = {
        "data": "rectangles", "epochs": 3, "batch_size": 4, "lr": 0.01, "checkpoint_steps": 2, "precision": "32",
        "accelerator": "cpu", "workers": 0, "teacher": "t", "student": "s", "method": "ldrld(depth=2) + at",
        "runs": folder, "name": "run",
    }  # fmt: skip
    if trouble is not None:
        TROUBLES[trouble[0]](*trouble[1:])
    inputs = Inputs(teacher=tiny_detector(classes=2), student=tiny_detector(classes=2), data=boxed_data())
    run_recipe(make_recipe("distill", settings), Silent(), inputs)


def distil_saving_often(folder, method, settings, trouble=None):
    """The run with checkpoints in mid-epoch, or with steps in parts."""
    SETTINGS.update(settings)  # of this life
    distil(folder, method, trouble)


def demo(folder, trouble=None):
    """The demo at its smallest, on images that need not be drawn first."""
    scale = demo_module.Scale(demo_module.STUDENT, classes=10, per_class=8, teacher_epochs=1, student_epochs=1)
    images = DataSet("tiny", tiny_set(8, 10), tiny_set(4, 10, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1))
    demo_module.QUICK, demo_module.load_data = scale, lambda *_, **__: images
    restore.load_dataset = lambda _, **__: images
    if trouble is not None:
        TROUBLES[trouble[0]](*trouble[1:])
    demo_module.demo(out=str(Path(folder) / "demo"), quick=True, seed=0, show=lambda _: None)


def command(folder, words, trouble=None):
    """A command of the command line; what it prints goes to a file, and its exit status is raised."""
    Path(folder).mkdir(exist_ok=True)
    said = os.open(Path(folder) / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if trouble is not None:
        TROUBLES[trouble[0]](*trouble[1:])
    status = main(words)
    sys.stdout.flush()
    raise SystemExit(status)


def measure(run, images, trouble):
    """Evaluate a run on images from files, one at a time."""
    TROUBLES[trouble[0]](*trouble[1:])
    evaluate(model=run, data=images, source="files", workers=2, batch_size=1, accelerator="cpu", trust=True)


class Filling(Silent):
    """Fills the disk at the end of an epoch, but for some bytes."""

    def __init__(self, file, epoch, left):
        self.file, self.at, self.left = Path(file), epoch, left

    def epoch(self, row):
        if row["epoch"] == self.at:
            size = shutil.disk_usage(self.file.parent).free - self.left
            self.file.write_bytes(bytes(size))


def distil_while_the_disk_fills(folder, method, epoch, left):
    """The run, on a disk on which something else leaves little room."""
    distil(folder, method, reporter=Filling(Path(folder) / "filler.bin", epoch, left))


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _at_file(moment, name, count, act):
    """Act when the count-th file of a name (a pattern) is "touched", "synced" or "renamed"."""
    pattern = re.compile(rf"\.{name}\.[0-9a-f]{{8}}\.tmp")
    left = [count]
    owner, attribute = {"touched": (Path, "touch"), "synced": (Path, "replace"), "renamed": (Path, "replace")}[moment]
    original = getattr(owner, attribute)

    def wrapped(self, *arguments, **options):
        mine = pattern.fullmatch(self.name) is not None
        left[0] -= mine
        if mine and left[0] == 0 and moment == "synced":
            act()
        result = original(self, *arguments, **options)
        if mine and left[0] == 0 and moment != "synced":
            act()
        return result

    setattr(owner, attribute, wrapped)


def killed_at_file(moment, name, count):
    """SIGKILL when a file is just made, whole but not in place, or just in place."""
    _at_file(moment, name, count, _die)


def killed_in_write(name, count, size):
    """SIGKILL while a file is written, after some bytes: the system stops the write there and says so by a signal."""
    signal.signal(signal.SIGXFSZ, _die)
    _at_file("touched", name, count, lambda: _limit_files(size))


def full_disk_in_write(name, count, size):
    """A write that fails after some bytes, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _at_file("touched", name, count, lambda: _limit_files(size))


def _limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def killed_before(what, count):
    """SIGKILL right before the count-th backward pass or optimizer's step, or in a forward pass."""
    _before(what, count, _die)


def group_told_before(what, count, number):
    """A signal to this process and its children, as a terminal or a scheduler sends it."""
    _before(what, count, lambda: os.killpg(0, number))


def worker_killed_before(what, count):
    """SIGKILL to a process that decodes images."""

    def kill():
        worker = multiprocessing.active_children()[0].pid
        print(f"killed: {worker}")
        os.kill(worker, signal.SIGKILL)

    _before(what, count, kill)


def file_lost_before(what, count, path, size):
    """An image file that is cut short, or removed if its new size is -1, and that has not been decoded yet."""
    _before(what, count, lambda: Path(path).unlink() if size < 0 else os.truncate(path, size))


def _before(what, count, act):
    left = [count]

    def look(*_):
        left[0] -= 1
        if left[0] == 0:
            act()

    if what == "step":
        register_optimizer_step_pre_hook(look)
    elif what == "batch norm":
        register_module_forward_pre_hook(lambda module, _: look() if isinstance(module, nn.BatchNorm2d) else None)
    else:
        backward = torch.Tensor.backward
        torch.Tensor.backward = lambda self: (look(), backward(self))[1]


TROUBLES = {
    f.__name__: f
    for f in (
        killed_at_file, killed_in_write, full_disk_in_write, killed_before, group_told_before, worker_killed_before,
        file_lost_before,
    )
}  # fmt: skip
