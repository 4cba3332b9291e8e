"""Build teacher, student and method for a data set, and connect the method to both models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stillroom.batch import Batch
from stillroom.config import DistillModels, Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.data.source import Source
from stillroom.engine.fine_tuning import find_head
from stillroom.errors import InputError
from stillroom.fingerprint import Parts, deep_copy
from stillroom.methods import Method, parse_method
from stillroom.methods.connect import Joint, connect
from stillroom.methods.cross_entropy import balanced_class_weights
from stillroom.methods.label_needs import refuse_mixing, refuse_unlabelled, trains_classifier
from stillroom.methods.offer_check import refuse_offer
from stillroom.models.batch_norm import set_bn_momentum
from stillroom.prepare.build_teacher import build_teacher
from stillroom.prepare.leak_check import Earlier, earlier_runs, refuse_leak
from stillroom.prepare.load_dataset import with_options, with_published_input
from stillroom.prepare.python_inputs import Inputs, own_copy
from stillroom.prepare.run_identity import method_parts, student_parts
from stillroom.prepare.stop_images import hold_out
from stillroom.resolve_model import Fit, build, is_run
from stillroom.teachers.prepared_teacher import PreparedTeacher

EXAMPLES = 32  # images on which the models are probed


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
    method = _build_method(recipe, inputs)
    losses = method_parts(method, given=inputs.method is not None)
    data = replace(data, train=data.train.hashed(), val=data.val.hashed())
    data = with_options(data, recipe.data, models.teacher if isinstance(models, DistillModels) else models.model)
    images, data = len(data.train), usable_images(method, data)
    _set_label_options(method, recipe, data)
    deep_copy(method).check(len(data.train.classes), recipe.run.epochs)  # a loss may keep state in its check
    student = _build_student(recipe, inputs, data)
    teacher = None if isinstance(models, TrainModel) else build_teacher(recipe, inputs, data, device=device, say=say)
    if teacher is not None:
        refuse_offer(method, teacher.offers)
    earlier = earlier_runs(recipe, inputs.teacher, inputs.student)
    refuse_leak(earlier, data, recipe.data.val_fraction)
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
    return Setup(data, method, joint, teacher, earlier, begun, losses, head, trained, images, stop_images)


def _build_method(recipe: Recipe, inputs: Inputs) -> Method:
    torch.manual_seed(recipe.run.seed)  # losses built from text may draw initial weights
    if inputs.method is not None:
        return own_copy(inputs.method, inputs.student)
    text = recipe.models.method if isinstance(recipe.models, DistillModels) else "ce"
    return parse_method(text, inputs.trust.of(text))


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


def student_source(recipe: Recipe) -> tuple[str, str | None, bool]:
    """Name, checkpoint and ``pretrained`` of the model that is trained."""
    models = recipe.models
    if isinstance(models, TrainModel):
        return models.model, models.checkpoint, models.pretrained
    return models.student, models.student_checkpoint, models.student_pretrained


def _build_student(recipe: Recipe, inputs: Inputs, data: DataSet) -> nn.Module:
    """The student on the CPU, so that connectors start from the same weights on every device."""
    torch.manual_seed(recipe.run.seed)
    name, checkpoint, pretrained = student_source(recipe)
    models = recipe.models
    role = "model" if isinstance(models, TrainModel) else "student"
    given = inputs.student or name
    student = build(role, given, Fit.of(data), checkpoint, pretrained, inputs.trust, new_head=models.new_head)
    if recipe.optim.bn_momentum is not None:
        set_bn_momentum(student, recipe.optim.bn_momentum)
    return student.cpu()


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
