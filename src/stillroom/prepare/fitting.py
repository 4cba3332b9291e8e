"""Models, method and images that fit each other, checked cheapest first; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stillroom.batch import Batch
from stillroom.config import DistillModels, Recipe, TrainModel
from stillroom.data import DataSet, MemoryLoader
from stillroom.errors import InputError
from stillroom.fingerprint import Parts, deep_copy
from stillroom.methods import Method, parse_method
from stillroom.methods.connect import Joint, connect
from stillroom.models import build_model
from stillroom.models.batch_norm import USUAL_BN_MOMENTUM, bn_window, set_bn_momentum
from stillroom.prepare.leak_check import Earlier, earlier_runs, refuse_leak
from stillroom.prepare.load_dataset import as_asked
from stillroom.prepare.python_inputs import own_copy
from stillroom.prepare.run_identity import method_parts, student_parts
from stillroom.prepare.weight_sources import check_source, require_weights
from stillroom.resolve import build, followed, is_run, was_handed_in
from stillroom.trust import NOTHING, Trust, naming

EXAMPLES = 32  # images that show what a model looks like inside


@dataclass(frozen=True)
class Inputs:
    """Ready-made objects that take the place of names in a recipe; None means: build it from its name.

    Attributes:
        teacher: a trained module.
        student: a module, trained in place.
        method: losses; a copy of them is used.
        data: loaded images.
        contents: fingerprints of ``data``, from whoever knows that it has not changed since they were taken.
        trust: which of the recipe's names, and of those in run folders that it names, may be imported or fetched.
    """

    teacher: nn.Module | None = None
    student: nn.Module | None = None
    method: Method | None = None
    data: DataSet | None = None
    contents: Mapping[str, str] | None = None
    trust: Trust = NOTHING


@dataclass(frozen=True)
class Fitted:
    """Models, method and images that fit each other.

    Attributes:
        data: images as the recipe wants them, each hashed.
        method: with its connectors.
        joint: student, teacher and what the method reads out of them.
        teacher: frozen, or None to train on labels only.
        earlier: the runs that the weights come from, by role.
        student_parts: what the student computes and holds, before it was joined to the method.
        method_parts: what the losses compute and hold, before they were joined to the models.
    """

    data: DataSet
    method: Method
    joint: Joint
    teacher: nn.Module | None
    earlier: Earlier
    student_parts: Parts
    method_parts: Parts


def check_names(recipe: Recipe, inputs: Inputs) -> None:
    """Refuse unknown models and methods, and teachers without weights, before an image is read.

    Raises:
        InputError: naming the setting.
    """
    models = recipe.models
    if inputs.method is None and isinstance(models, DistillModels):
        parse_method(models.method, inputs.trust.of(models.method))
    if inputs.teacher is not None and inputs.teacher is inputs.student:
        raise InputError("teacher and student are the same module: give the student a module of its own")
    if isinstance(models, TrainModel):
        wanted = [("model", inputs.student or models.model, models.checkpoint, models.pretrained)]
    else:
        wanted = [
            ("teacher", inputs.teacher or models.teacher, models.teacher_checkpoint, models.teacher_pretrained),
            ("student", inputs.student or models.student, models.student_checkpoint, models.student_pretrained),
        ]
    for role, model, checkpoint, pretrained in wanted:
        check_source(role, model, checkpoint, pretrained)
        if role == "teacher":
            require_weights(role, model, checkpoint, pretrained)
        if not isinstance(model, str):
            continue
        name, trust = followed(model, inputs.trust)
        if not is_run(model) or not was_handed_in(name):
            try:
                with torch.device("meta"):
                    build_model(name, num_classes=2, origin=trust.of(name))
            except InputError as error:
                raise naming(f"{role}={model}", error) from error
            except Exception:  # noqa: BLE001, S110  some models cannot be built without memory; they get their turn
                pass


def fit(recipe: Recipe, inputs: Inputs, data: DataSet) -> Fitted:
    """Build the models and let the method see both; nothing is written.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        data: the images as they were loaded.

    Raises:
        InputError: for anything that cannot work.
    """
    models = recipe.models
    torch.manual_seed(recipe.run.seed)  # losses that are built from text may draw initial weights
    if inputs.method is not None:
        method = own_copy(inputs.method, inputs.student)
    else:
        text = models.method if isinstance(models, DistillModels) else "ce"
        method = parse_method(text, inputs.trust.of(text))
    losses = method_parts(method, given=inputs.method is not None)
    data = replace(data, train=data.train.hashed(), val=data.val.hashed())
    data = as_asked(data, recipe.data, models.teacher if isinstance(models, DistillModels) else "")
    deep_copy(method).check(len(data.train.classes), recipe.run.epochs)  # a loss may remember what it was asked about
    torch.manual_seed(recipe.run.seed)
    if isinstance(models, TrainModel):
        name, checkpoint = models.model, models.checkpoint
        student = build("model", inputs.student or name, data, checkpoint, models.pretrained, inputs.trust)
        teacher = None
    else:
        name, checkpoint = models.student, models.student_checkpoint
        student = build(
            "student", inputs.student or models.student, data, models.student_checkpoint, models.student_pretrained,
            inputs.trust,
        )  # fmt: skip
        teacher = build(
            "teacher", inputs.teacher or models.teacher, data, models.teacher_checkpoint, models.teacher_pretrained,
            inputs.trust,
        )  # fmt: skip
    if recipe.optim.bn_momentum is not None:
        set_bn_momentum(student, recipe.optim.bn_momentum)
    for model in (student, teacher):
        if model is not None:
            model.cpu()  # connectors start from the same weights on every device; the loop moves everything
    earlier = earlier_runs(recipe, inputs.teacher, inputs.student)
    refuse_leak(earlier, data, recipe.data.val_fraction)
    begun = student_parts(inputs.student, name, student, checkpoint, inputs.trust.of(name))
    joint = connect(method, student, teacher, examples(data, method, recipe.run.seed), labels_by_id(data))
    return Fitted(data, method, joint, teacher, earlier, begun, losses)


def notes(fitted: Fitted, recipe: Recipe) -> list[str]:
    """What is no mistake but good to know before training begins."""
    steps, batch = math.ceil(len(fitted.data.train) / recipe.run.batch_size), recipe.run.batch_size
    run = recipe.run
    unused = [name for name, value in (("bank", run.bank), ("shard_teacher", run.shard_teacher)) if value]
    found = []
    if unused and isinstance(recipe.models, TrainModel):
        found.append(f"{' and '.join(unused)} not used: a run that learns from labels has no teacher")
    if steps == 1:
        found.append(
            f"batch_size={batch} takes all {len(fitted.data.train):,} training images at once, so that an epoch is 1 "
            "step; a smaller batch size learns faster"
        )
    epochs, milestones = recipe.run.epochs, recipe.optim.milestones or []
    late = [str(milestone) for milestone in milestones if milestone >= epochs]
    if late and recipe.optim.schedule == "milestones":
        found.append(
            f"milestones: the run ends with epoch {epochs}, so that the learning rate does not fall at "
            f"{', '.join(late)}; give milestones for this number of epochs"
        )
    window = bn_window(fitted.joint.student)
    if window > max(steps, 1 / USUAL_BN_MOMENTUM):
        found.append(
            f"the trained model's batch norms average over some {window:,.0f} steps and an epoch has {steps}, so that "
            f"validation accuracy lags behind, by points in a short run; bn_momentum={USUAL_BN_MOMENTUM} helps"
        )
    return found


def examples(data: DataSet, method: Method, seed: int) -> Batch:
    """A few training images as they are, for shapes and statistics."""
    loader = MemoryLoader(
        data.train, batch_size=min(EXAMPLES, len(data.train)), mean=data.mean, std=data.std, shuffle=True, seed=seed,
        strong=method.needs_strong,
    )  # fmt: skip
    return next(loader.epoch(0))


def labels_by_id(data: DataSet) -> Tensor:
    """The label of each training sample by its id, -1 for ids that do not occur in the part that is used."""
    labels = torch.full((int(data.train.ids.max()) + 1,), -1)
    labels[data.train.ids] = data.train.labels
    return labels
