"""Run banner: two lines at the start of a run, one for models and images, one for schedule and machine."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from stillroom.config import TrainModel
from stillroom.data import DataSet
from stillroom.data.decoding_workers import worker_count
from stillroom.data.source import Source
from stillroom.data.unlabelled_folder import UNNAMED
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.engine.training_job import Job
from stillroom.formatting import counted


def run_banner(job: Job, steps: int, done: int) -> tuple[str, str]:
    """Describe a run before it starts, so that a user sees mistakes in the settings.

    Args:
        job: the run to describe.
        steps: number of steps in one epoch.
        done: steps done before a resume.

    Returns:
        A line for models and images, and a line for epochs, learning rate and machine.
    """
    models, optim, run, machine = job.recipe.models, job.recipe.optim, job.recipe.run, job.machine
    if isinstance(models, TrainModel):
        trained = f"{_named(models.model, job.student)} learns from labels"
    else:
        trained = f"student {_named(models.student, job.student)}"
        if job.teacher is not None:
            trained += f", teacher {_named(models.teacher, *job.teacher.modules)}"
        trained += f", method {models.method}"
    images = images_in_words(job.data, job.stop_images, job.recipe.data.workers)
    where = str(machine.device)
    if machine.device.type == "cpu":
        where += f" with {counted(torch.get_num_threads(), 'thread')}"
    if machine.world_size > 1:
        where += f" in {counted(machine.world_size, 'process')}"
    length = f"{counted(run.epochs, 'epoch')} of {counted(steps, 'step')}"
    resumed = f", continuing after step {done}" if done else ""
    optimization = f"batch size {run.batch_size}, {optim.optimizer}, learning rate {optim.lr:g}, {optim.schedule}"
    return f"{trained}; {images}", f"{length}{resumed}; {optimization}; {where}, precision {machine.precision}"


def images_in_words(data: DataSet, stop_images: Source | None, workers: int | None) -> str:
    """The number of classes and images, their size, and where they are.

    Args:
        data: of the run.
        stop_images: training images that are held out to judge the epochs, or None.
        workers: the setting.
    """
    train, (_, height, width) = data.train, data.input_shape
    classes = "no classes" if train.classes == UNNAMED else counted(len(train.classes), "class")
    held_out = "" if stop_images is None else f" (and {len(stop_images):,} held out to judge the epochs)"
    where = "in memory" if train.kind == "memory" else f"from files with {counted(worker_count(workers), 'worker')}"
    size = f"of {height}x{width}" if train.one_size else f"with {height} pixels on the shorter side"
    return f"{classes}, {len(train):,} training{held_out} and {len(data.val):,} validation images {size}, {where}"


def _named(name: str, *networks: nn.Module) -> str:
    """A model's name and size, for example "runs/teacher (resnet56, 861,620 parameters)"."""
    if not networks:  # behind a server or in a file
        return name
    size = counted(sum(p.numel() for network in networks for p in network.parameters()), "parameter")
    run = RunFolder(Path(name))
    if (run.path / "config.yaml").is_file():
        size = f"{trained_model(run.config())}, {size}"
    return f"{name} ({size})"
