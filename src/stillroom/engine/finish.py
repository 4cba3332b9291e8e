"""The end of a run: the student's weights, its predictions and the summary, in their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from stillroom.data import BatchLoader
from stillroom.engine.checkpoint import Progress
from stillroom.engine.early_stopping import early_stop_record, stop_sentence
from stillroom.engine.predictions import keep_predictions
from stillroom.engine.training_job import Job
from stillroom.models import load_weights
from stillroom.models.macs import count_macs
from stillroom.runtime.distributed import Group
from stillroom.runtime.peak_memory import PeakMemory
from stillroom.runtime.reporters import Reporter
from stillroom.tasks.task import Found

Shape = tuple[int, int, int]  # channels, height, width


def finish(
    job: Job,
    now: Progress,
    teacher: Mapping[str, Any] | None,
    memory: PeakMemory,
    reporter: Reporter,
    val: BatchLoader,
    last: Found | None = None,
) -> dict[str, Any]:
    """Write the student, its predictions, and last the summary, whose presence marks the run as finished.

    Args:
        job: the run, after its last epoch was saved; every process must call this.
        now: with the metrics of all epochs.
        teacher: the teacher's scores, or None.
        memory: peak memory since the run was started or resumed.
        reporter: receives a warning if the student learned nothing.
        val: loader of the validation images.
        last: the last epoch's predictions on this process's validation images; None if the run was resumed after that
            epoch.

    Returns:
        The summary.

    Raises:
        InputError: a file cannot be written.
    """
    group, rows = Group(job.machine), now.rows
    if job.recipe.run.export == "best":
        group.wait()  # process 0 may still be writing them
        load_weights(job.student, job.run.best)
    job.student.eval()
    peaks = group.from_all(memory.bytes())
    if job.machine.first:
        job.run.write_student(job.student)
    if job.recipe.run.export == "best" or last is None:  # the loop has no predictions of the exported weights
        last = job.task.predict(job.student, val.epoch(0), job.machine.autocast())
    keep_predictions(job, last)
    summary = {
        **model_costs(job),
        "teacher": None if teacher is None else dict(teacher),
        "last": rows[-1],
        "best": now.best(job.task.score),
        "exported": job.recipe.run.export,
        **early_stop_record(job, now),
        "seconds": sum(row["seconds"] for row in rows),
        "bank_seconds": sum(row.get("bank_seconds", 0.0) for row in rows),
        "peak_memory_bytes": None if None in peaks else max(peaks),
        "device": str(job.machine.device),
        "processes": job.machine.world_size,
    }
    if job.machine.first:
        job.run.write_summary(summary)
    for line in stop_sentence(summary, job.recipe.run.epochs):
        reporter.say(line)
    if words := job.task.warning(rows, len(job.data.train.classes), job.recipe.optim.lr or 0.0):
        reporter.say(f"warning: {words}")
    return summary


def model_costs(job: Job) -> dict[str, int | None]:
    """Parameters and multiply-accumulate operations of the student and the teacher, as the summary names them."""
    channels, height, width = job.data.train.shape
    members = () if job.teacher is None else job.teacher.members
    networks = [(m.module, (channels, *(m.raw.input_format.size or (height, width)))) for m in members]
    teachers = [(module, shape) for module, shape in networks if module is not None]
    return _cost("", [(job.student, job.data.input_shape)], job) | _cost("teacher_", teachers, job)


def _cost(role: str, networks: Sequence[tuple[nn.Module, Shape]], job: Job) -> dict[str, int | None]:
    """Parameters of networks, and the multiply-accumulate operations for one image where they can be counted.

    Args:
        role: prefix of the names.
        networks: each with the shape of an image as it takes it.
        job: the run.
    """
    if not networks:
        return {f"{role}parameters": None, f"{role}macs": None}
    macs = None
    if not (role and job.recipe.run.shard_teacher and job.machine.world_size > 1):  # only all processes can run it
        with suppress(Exception):  # a model of the user's own may take no single image, which is no reason to fail
            device = job.machine.device
            macs = sum(
                count_macs(network, torch.zeros(1, *shape, device=device), job.task.forward)
                for network, shape in networks
            )
    parameters = sum(p.numel() for network, _ in networks for p in network.parameters())
    return {f"{role}parameters": parameters, f"{role}macs": macs}
