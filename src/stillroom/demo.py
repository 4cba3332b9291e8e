"""``stillroom demo``: train a teacher on a drawn set, distil it with several methods, and write a page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
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
DETECTORS = "stillroom.models.demo_detectors"
METHODS = {
    "labels-only": "ce",
    "kd": "kd",
    "dkd": "dkd(warmup=2)",
    "ldrld": "ldrld(warmup=2)",
}
DETECTION_METHODS = {  # weights chosen on held-out scenes: benchmarks/results/detection-demo.md
    "labels-only": "ce",
    "kd": "1*kd(temperature=1)",
    "ldrld": "0.1*ldrld(temperature=1)",
    "ldrld-and-reviewkd": "0.1*ldrld(temperature=1) + 0.1*reviewkd(mid_channels=48, warmup=0)",
}


@dataclass(frozen=True)
class Scale:
    """Size of the demo for classification.

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


@dataclass(frozen=True)
class DetectionScale:
    """Size of the demo for detection.

    Attributes:
        scenes: number of training scenes; there is a validation scene for each five.
        epochs: of the teacher and of each student.
        batch_size: of all.
    """

    scenes: int
    epochs: int
    batch_size: int


FULL = Scale("stillroom.models.demo_nets:large", 100, 200, teacher_epochs=5, student_epochs=4)
QUICK = Scale("stillroom.models.demo_nets:medium", 30, 100, teacher_epochs=8, student_epochs=6)
FULL_DETECTION = DetectionScale(2000, epochs=4, batch_size=16)
QUICK_DETECTION = DetectionScale(500, epochs=4, batch_size=8)


@dataclass(frozen=True)
class _Plan:
    """What a demo trains.

    Attributes:
        set_name: the name of the data set in the title.
        data: the images.
        common: settings of all runs.
        teacher: settings of the teacher.
        student: settings of the students.
        methods: name of a run -> its method.
    """

    set_name: str
    data: DataSet
    common: Mapping[str, Any]
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]
    methods: Mapping[str, str]


def demo(*, out: str | None, quick: bool, seed: int, show: Callable[[Any], None], task: str = "classification") -> None:
    """Run the demo; finished runs in the folder are kept.

    Args:
        out: folder for runs, page and student; by default a name made from the other arguments.
        quick: less data and fewer epochs, less accuracy.
        seed: fixes initial weights, order and augmentation.
        show: prints a line or a table.
        task: "classification" of characters, or "detection" of characters and shapes in scenes.

    Raises:
        InputError: ``out`` contains other files, such as a page of the user's own.
    """
    begin = time.perf_counter()
    detects = task == "detection"
    folder = Path(out or "runs/demo" + "-detection" * detects + "-quick" * quick + f"-s{seed}" * bool(seed))
    refuse_foreign(folder / "index.html", PAGE, "--out")
    plan = (_detection if detects else _classification)(quick=quick, show=show)
    reporter = make_reporter()
    common = {**plan.common, "runs": str(folder), "seed": seed, "schedule": "cosine", "warmup_epochs": 1}
    teacher = _run("train", {**common, **plan.teacher, "name": "teacher"}, plan.data, reporter)
    settings = {**common, **plan.student, "teacher": str(teacher.record.path)}
    students = {
        name: _run("distill", {**settings, "method": method, "name": name}, plan.data, reporter)
        for name, method in plan.methods.items()
    }
    show(summary_table([teacher.record, *(result.record for result in students.values())]))
    page = folder / "index.html"
    show("Writing the page: metrics and charts of all students.")
    _write_page(page, plan)
    weights = folder / "ldrld-student.safetensors"
    write_atomically(weights, lambda aside: shutil.copyfile(students["ldrld"].record.student, aside))
    show(f"page      {page.resolve().as_uri()}")
    show(f"student   {weights}")
    show(f"time      {duration(time.perf_counter() - begin)}")


def _classification(*, quick: bool, show: Callable[[Any], None]) -> _Plan:
    """Classifiers of Glyphs-100."""
    scale = QUICK if quick else FULL
    show("Glyphs-100: 100 characters that people confuse; a quarter of the test fonts are never seen in training.")
    data = load_data("glyphs100", first_classes=scale.classes, per_class=scale.per_class)
    show(f"{scale.classes} classes, {len(data.train):,} training and {len(data.val):,} test images are ready.")
    common = {
        "data": "glyphs100", "first_classes": scale.classes, "per_class": scale.per_class, "batch_size": 64,
        "lr": 0.1, "nesterov": True,
    }  # fmt: skip
    return _Plan(
        "Glyphs-100",
        data,
        common,
        teacher={"model": scale.teacher, "epochs": scale.teacher_epochs},
        student={"student": STUDENT, "epochs": scale.student_epochs},
        methods=METHODS,
    )


def _detection(*, quick: bool, show: Callable[[Any], None]) -> _Plan:
    """Detectors of characters and shapes in scenes."""
    scale = QUICK_DETECTION if quick else FULL_DETECTION
    name = f"scenes:{scale.scenes}"
    show("Scenes: 16 characters and shapes that people confuse, small and partly covered; a quarter of the test fonts "
         "are never seen in training.")  # fmt: skip
    data = load_data(name)
    show(f"{len(data.train):,} training and {len(data.val):,} test images with boxes are ready.")
    common = {
        "data": name, "batch_size": scale.batch_size, "epochs": scale.epochs, "optimizer": "adamw",
        "weight_decay": 0.05, "precision": "32",
    }  # fmt: skip
    return _Plan(
        "scenes",
        data,
        common,
        teacher={"model": f"{DETECTORS}:large_detector", "lr": 2e-3},
        student={"student": f"{DETECTORS}:small_detector", "lr": 4e-3},
        methods=DETECTION_METHODS,
    )


def _run(command: Any, settings: dict[str, Any], data: DataSet, reporter: Reporter) -> Result:
    return run_recipe(make_recipe(command, settings), reporter, Inputs(data=data))


def _write_page(page: Path, plan: _Plan) -> None:
    """Describe the folder for the page and for later commands, and write the page."""
    about = {
        "title": f"A teacher and four students on {plan.set_name}",
        "reference": "labels only",
        "methods": {name.replace("-", " "): method for name, method in plan.methods.items()},
    }
    write_description(page.parent, about)
    comparison = read_comparison([page.parent])
    write_report(page, comparison, summarize(comparison))
