"""The training job: models, method, data, settings and run folder of one run."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from stillroom.config import Recipe
from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.engine.run_folder import RunFolder
from stillroom.methods import Method
from stillroom.models.model_parts import ModelParts, PartsReader
from stillroom.runtime.device import Machine
from stillroom.tasks.classification import Classification
from stillroom.tasks.task import Task
from stillroom.teachers.prepared_teacher import PreparedTeacher


@dataclass(frozen=True)
class Job:
    """The objects of one run, built and checked.

    Attributes:
        student: the model to train, on the CPU or already on its device.
        teacher: frozen, or None to train on labels only.
        method: the losses.
        data: training and validation images with their statistics.
        recipe: the settings.
        run: the folder that records the run.
        machine: device, precision and processes.
        student_view: the parts of the student that the method reads beside its logits; None if it reads none.
        teacher_view: the same for the teacher.
        head: names of the layers that are the student's head, for fine-tuning; empty where no setting concerns it.
        classifier_trained: whether the run trains the student's classifier, or starts from a trained one.
        stop_images: training images that are held out to judge the epochs; None without ``patience``.
        task: what is learned.
    """

    student: nn.Module
    teacher: PreparedTeacher | None
    method: Method
    data: DataSet
    recipe: Recipe
    run: RunFolder
    machine: Machine
    student_view: ModelParts | None = None
    teacher_view: ModelParts | None = None
    head: tuple[str, ...] = ()
    classifier_trained: bool = True
    stop_images: Source | None = None
    task: Task = field(default_factory=Classification)

    @property
    def has_accuracy(self) -> bool:
        """Whether the student's score says anything: there are labels, and its classifier is trained."""
        return self.classifier_trained and not self.data.val.unlabelled

    @property
    def has_agreement(self) -> bool:
        """Whether student and teacher can be compared by the classes that they predict."""
        return self.classifier_trained and self.teacher is not None and self.teacher.offers != "embedding"

    def reader(self, side: str, *models: nn.Module) -> PartsReader | None:
        """The reader of the parts that the method needs from a model; None if it needs none.

        Args:
            side: "student" or "teacher".
            models: the network, or nothing where there is none in this process.
        """
        view = self.student_view if side == "student" else self.teacher_view
        return PartsReader(models[0], view, self.method.parts_of(side)) if models and view is not None else None
