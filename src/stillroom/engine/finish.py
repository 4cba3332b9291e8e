"""The end of a run: the student's weights and the numbers, in their files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stillroom.engine.evaluate import Evaluation, hardly_learned, what_to_try
from stillroom.engine.training_job import Job
from stillroom.engine.training_state import Progress
from stillroom.models import load_weights
from stillroom.runtime import distributed
from stillroom.runtime.peak_memory import PeakMemory
from stillroom.runtime.reporters import Reporter


def finish(
    job: Job, now: Progress, teacher: Evaluation | None, memory: PeakMemory, reporter: Reporter
) -> dict[str, Any]:
    """Write the student, then the summary, whose presence marks the run as finished.

    Args:
        job: whose last epoch is done and saved; every process has to call this.
        now: with the numbers of all epochs.
        teacher: the teacher's numbers, if there is one.
        memory: since the run was begun or taken up again.
        reporter: warned of a student that learned nothing.

    Returns:
        The summary.

    Raises:
        InputError: a file cannot be written.
    """
    many, rows = job.machine.world_size > 1, now.rows
    if job.recipe.run.export == "best":
        if many:
            distributed.wait_for_all()  # process 0 may still be writing them
        load_weights(job.student, job.run.best)
    job.student.eval()
    peak = memory.bytes()
    peaks = distributed.from_all(peak) if many else [peak]
    summary = {
        "parameters": sum(p.numel() for p in job.student.parameters()),
        "teacher_parameters": None if job.teacher is None else sum(p.numel() for p in job.teacher.parameters()),
        "teacher": None if teacher is None else asdict(teacher),
        "last": rows[-1],
        "best": now.best(),
        "exported": job.recipe.run.export,
        "seconds": sum(row["seconds"] for row in rows),
        "bank_seconds": sum(row.get("bank_seconds", 0.0) for row in rows),
        "peak_memory_bytes": None if None in peaks else max(peaks),
        "device": str(job.machine.device),
        "processes": job.machine.world_size,
    }
    if job.machine.first:
        job.run.write_student(job.student)
        job.run.write_summary(summary)
    # The one falls behind in a short run, the other where batch norms average over a long one.
    accuracy = max(rows[-1]["train_top1"], rows[-1]["val_top1"])
    if words := hardly_learned(accuracy, len(job.data.train.classes)):
        fix = what_to_try(rows[0]["loss"], rows[-1]["loss"], job.recipe.optim.lr or 0.0)
        reporter.say(f"warning: accuracy ended at {words}; {fix}")
    return summary
