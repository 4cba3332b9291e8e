"""Setup of a run: images, models and a method that fit each other."""

from __future__ import annotations

from dataclasses import dataclass

from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.fingerprint import Parts
from stillroom.methods import Method
from stillroom.methods.connect import Joint
from stillroom.prepare.leak_check import Earlier
from stillroom.tasks.task import Task
from stillroom.teachers.prepared_teacher import PreparedTeacher


@dataclass(frozen=True)
class Setup:
    """Images, models and a method that fit each other.

    Attributes:
        data: images with the run's augmentation and normalisation, each hashed.
        method: with its connectors.
        joint: the student, and the features that the method reads from both models.
        teacher: frozen, or None to train on labels only.
        earlier: the runs that the weights come from, by role.
        student_parts: fingerprints of the student before it was connected.
        method_parts: fingerprints of the losses before they were connected.
        head: names of the student's head, as for :func:`stillroom.engine.fine_tuning.find_head`.
        classifier_trained: whether the run trains the student's classifier, or starts from a trained one.
        train_images: number of training images in the data set, with those that the method does not use.
        stop_images: training images that are held out to judge the epochs, or None.
        task: what is learned.
    """

    data: DataSet
    method: Method
    joint: Joint
    teacher: PreparedTeacher | None
    earlier: Earlier
    student_parts: Parts
    method_parts: Parts
    head: tuple[str, ...]
    classifier_trained: bool
    train_images: int
    stop_images: Source | None
    task: Task
