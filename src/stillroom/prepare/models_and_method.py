"""Build teacher, student and method for a data set, and connect the method to both models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from stillroom.batch import Batch
from stillroom.config import DistillModels, Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.engine.fine_tuning import find_head
from stillroom.errors import InputError
from stillroom.fingerprint import deep_copy
from stillroom.losses import Foreground
from stillroom.methods import Method
from stillroom.methods.connect import connect
from stillroom.methods.cross_entropy import balanced_class_weights
from stillroom.methods.label_needs import refuse_mixing, refuse_unlabelled, trains_classifier
from stillroom.methods.offer_check import refuse_offer
from stillroom.prepare.build_teacher import build_teacher
from stillroom.prepare.leak_check import earlier_runs, refuse_leak
from stillroom.prepare.load_dataset import with_options, with_published_input
from stillroom.prepare.model_builders import build_method, build_student, student_source
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import method_parts, student_parts
from stillroom.prepare.setup import Setup
from stillroom.prepare.stop_images import hold_out
from stillroom.resolve_model import is_run
from stillroom.tasks.classification import Classification
from stillroom.teachers.prepared_teacher import PreparedTeacher

EXAMPLES = 32  # images on which the models are probed


def set_up(
    recipe: Recipe,
    inputs: Inputs,
    data: DataSet,
    *,
    device: torch.device | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Setup:
    """Build the models and connect the method to them; nothing is written.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        data: the images as loaded.
        device: of the run; None for the CPU.
        say: told how the teacher's classes are mapped and how it takes images.

    Raises:
        InputError: for anything that cannot work.
    """
    models = recipe.models
    method = build_method(recipe, inputs)
    if any(isinstance(part, Foreground) for part in method.modules()):
        raise InputError(
            f"method={method.text!r}: foreground(...) leaves out the background of detectors, and these images have "
            "none; leave it out"
        )
    losses = method_parts(method, given=inputs.method is not None)
    data = replace(data, train=data.train.hashed(), val=data.val.hashed())
    data = with_options(data, recipe.data, models.teacher if isinstance(models, DistillModels) else models.model)
    images, data = len(data.train), usable_images(method, data)
    _set_label_options(method, recipe, data)
    deep_copy(method).check(len(data.train.classes), recipe.run.epochs)  # a loss may keep state in its check
    student = build_student(recipe, inputs, data)
    teacher = None if isinstance(models, TrainModel) else build_teacher(recipe, inputs, data, device=device, say=say)
    if teacher is not None:
        refuse_offer(method, teacher.offers)
    earlier = earlier_runs(recipe, inputs.teacher, inputs.student)
    refuse_leak(earlier, data, recipe.data)
    name, checkpoint, pretrained = student_source(recipe)
    if isinstance(models, TrainModel) and inputs.student is None:
        data = with_published_input(data, recipe.data, name, student, checkpoint=checkpoint, pretrained=pretrained)
    begun = student_parts(inputs.student, name, student, checkpoint, inputs.trust.of(name))
    data, stop_images = hold_out(recipe, data)
    shown = examples(data, method, recipe.run.seed)
    side = None if teacher is None else teacher.side()
    joint = connect(method, student, side, shown, labels_by_id(data))
    head = find_head(recipe.optim, method, joint.student, shown.images)
    begins_trained = inputs.student is not None or checkpoint is not None or is_run(name)
    trained = (begins_trained and not models.new_head) or trains_classifier(
        method, labels=data.train.unlabelled < len(data.train)
    )
    _refuse_unjudged(recipe, data, stop_images, teacher, classifier_trained=trained)
    return Setup(
        data, method, joint, teacher, earlier, begun, losses, head, trained, images, stop_images, Classification()
    )


def _refuse_unjudged(
    recipe: Recipe,
    data: DataSet,
    stop_images: Source | None,
    teacher: PreparedTeacher | None,
    *,
    classifier_trained: bool,
) -> None:
    """Refuse to look for the best epoch where neither accuracy nor agreement is measured."""
    judge = data.val if stop_images is None else stop_images
    compared = teacher is not None and teacher.offers != "embedding"
    if classifier_trained and (compared or not judge.unlabelled):
        return
    setting, fix = f"patience={recipe.run.patience}", "leave patience out"
    if stop_images is None:
        setting, fix = "export=best", "give export=last"
    if stop_images is not None or recipe.run.export == "best":
        raise InputError(
            f"{setting}: neither accuracy nor agreement with the teacher is measured in this run, so that no epoch is "
            f"the best; {fix}"
        )


def usable_images(method: Method, data: DataSet) -> DataSet:
    """The data set as a method uses it: a method without a loss but the cross-entropy takes labelled images only.

    Raises:
        InputError: the method cannot be used with training images without a label.
    """
    refuse_unlabelled(method, data.train.unlabelled, len(data.train))
    if any(term.weight for term in method.terms):
        return data
    return replace(data, train=data.train.labelled()) if data.train.unlabelled else data


def _set_label_options(method: Method, recipe: Recipe, data: DataSet) -> None:
    """Give a method the settings of the cross-entropy, and refuse settings that its losses or the labels rule out."""
    if data.augment.mixes:
        used = {"mixup": data.augment.mixup, "cutmix": data.augment.cutmix}
        refuse_mixing(method, next(f"{name}={value:g}" for name, value in used.items() if value))
    balanced = {"sampling": recipe.data.sampling, "class_weights": recipe.optim.class_weights}
    for name, value in balanced.items():
        if value == "balanced" and data.train.unlabelled == len(data.train):
            raise InputError(f"{name}=balanced counts the images of each class, and no training image has a label")
    method.label_smoothing = recipe.optim.label_smoothing
    if recipe.optim.class_weights == "balanced":
        method.class_weights = balanced_class_weights(data.train.labels, len(data.train.classes))


def examples(data: DataSet, method: Method, seed: int) -> Batch:
    """A few training images without augmentation."""
    loader = data.train.loader(
        batch_size=min(EXAMPLES, len(data.train)), input_format=data.input_format, shuffle=True, seed=seed,
        strong=method.needs_strong,
    )  # fmt: skip
    return next(loader.epoch(0))


def labels_by_id(data: DataSet) -> Tensor:
    """The label of each training sample by its id, int64; -1 for ids that do not occur."""
    labels = torch.full((int(data.train.ids.max()) + 1,), -1)
    labels[data.train.ids] = data.train.labels
    return labels
