"""``stillroom demo``: train a teacher on Glyphs-100, distil it with four methods, and write a page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.api import Result, run_recipe
from stillroom.config import make_recipe
from stillroom.data import DataSet, load_data
from stillroom.files import write_atomically
from stillroom.formatting import duration
from stillroom.prepare.python_inputs import Inputs
from stillroom.report.aggregate import read_comparison
from stillroom.report.comparison_file import write_description
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.report.page import write_report
from stillroom.report.runs_table import summary_table
from stillroom.report.summary import summarize
from stillroom.runtime.reporters import Reporter, make_reporter

STUDENT = "stillroom.models.demo_nets:small"
METHODS = {
    "labels-only": "ce",
    "kd": "kd",
    "dkd": "dkd(warmup=2)",
    "ldrld": "ldrld(warmup=2)",
}


@dataclass(frozen=True)
class Scale:
    """Size of the demo.

    Attributes:
        teacher: the teacher's model.
        classes: number of classes, of 100.
        per_class: training images per class.
        teacher_epochs: epochs of the teacher.
        student_epochs: epochs of each student.
    """

    teacher: str
    classes: int
    per_class: int
    teacher_epochs: int
    student_epochs: int


FULL = Scale("stillroom.models.demo_nets:large", 100, 200, teacher_epochs=5, student_epochs=4)
QUICK = Scale("stillroom.models.demo_nets:medium", 30, 100, teacher_epochs=8, student_epochs=6)


def demo(*, out: str | None, quick: bool, seed: int, show: Callable[[Any], None]) -> None:
    """Run the demo; finished runs in the folder are kept.

    Args:
        out: folder for runs, page and student; by default a name made from the other arguments.
        quick: less data and fewer epochs, less accuracy.
        seed: fixes initial weights, order and augmentation.
        show: prints a line or a table.

    Raises:
        InputError: ``out`` contains other files, such as a page of the user's own.
    """
    begin = time.perf_counter()
    scale = QUICK if quick else FULL
    folder = Path(out or "runs/demo" + "-quick" * quick + f"-s{seed}" * bool(seed))
    refuse_foreign(folder / "index.html", PAGE, "--out")
    show("Glyphs-100: 100 characters that people confuse; a quarter of the test fonts are never seen in training.")
    data = load_data("glyphs100", first_classes=scale.classes, per_class=scale.per_class)
    show(f"{scale.classes} classes, {len(data.train):,} training and {len(data.val):,} test images are ready.")
    reporter = make_reporter()
    common = {
        "data": "glyphs100", "first_classes": scale.classes, "per_class": scale.per_class,
        "runs": str(folder), "seed": seed, "batch_size": 64,
        "lr": 0.1, "schedule": "cosine", "warmup_epochs": 1, "nesterov": True,
    }  # fmt: skip
    own = {"model": scale.teacher, "name": "teacher", "epochs": scale.teacher_epochs}
    teacher = _run("train", {**common, **own}, data, reporter)
    settings = {**common, "teacher": str(teacher.record.path), "student": STUDENT, "epochs": scale.student_epochs}
    students = {
        name: _run("distill", {**settings, "method": method, "name": name}, data, reporter)
        for name, method in METHODS.items()
    }
    show(summary_table([teacher.record, *(result.record for result in students.values())]))
    page = folder / "index.html"
    show("Writing the page: metrics and charts of all students.")
    _write_page(page)
    weights = folder / "ldrld-student.safetensors"
    write_atomically(weights, lambda aside: shutil.copyfile(students["ldrld"].record.student, aside))
    show(f"page      {page.resolve().as_uri()}")
    show(f"student   {weights}")
    show(f"time      {duration(time.perf_counter() - begin)}")


def _run(command: Any, settings: dict[str, Any], data: DataSet, reporter: Reporter) -> Result:
    return run_recipe(make_recipe(command, settings), reporter, Inputs(data=data))


def _write_page(page: Path) -> None:
    """Describe the folder for the page and for later commands, and write the page."""
    about = {
        "title": "A teacher and four students on Glyphs-100",
        "reference": "labels only",
        "methods": {name.replace("-", " "): method for name, method in METHODS.items()},
    }
    write_description(page.parent, about)
    comparison = read_comparison([page.parent])
    write_report(page, comparison, summarize(comparison))
