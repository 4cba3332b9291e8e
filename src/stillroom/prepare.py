"""From a recipe to a job: every check, every model, the pictures and the run folder, before training begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.config import DataOptions, DistillModels, Recipe, TrainModel
from stillroom.data import DataSet, MemoryLoader, load_data
from stillroom.earlier import Earlier, earlier_runs, refuse_leak, set_notes
from stillroom.engine.bank_key import BankKey, bank_key
from stillroom.engine.device import Machine
from stillroom.engine.job import Job
from stillroom.engine.probe import Probe, probe
from stillroom.engine.progress import Reporter
from stillroom.engine.runs import RunFolder, open_run
from stillroom.engine.samples import samples_bytes, write_samples
from stillroom.engine.together import first_process_first
from stillroom.errors import InputError
from stillroom.fingerprint import Parts, copied
from stillroom.identity import (
    as_left,
    contents,
    decides,
    digest_of,
    identity,
    method_parts,
    student_parts,
    teacher_parts,
)
from stillroom.methods import Method, parse_method
from stillroom.methods.connect import Joint, connect
from stillroom.models import build_model
from stillroom.models.norms import USUAL_BN_MOMENTUM, bn_window, set_bn_momentum
from stillroom.models.reuse import ReusedHead
from stillroom.networks import build, fingerprint, followed, is_run, was_handed_in
from stillroom.records import Batch
from stillroom.resolved import settings_of
from stillroom.sources import check_source, require_weights
from stillroom.trust import NOTHING, Trust, naming

EXAMPLES = 32  # pictures that show what a model looks like inside


@dataclass(frozen=True)
class Inputs:
    """Ready-made objects that take the place of names in a recipe; None means: build it from its name.

    Attributes:
        teacher: a trained module.
        student: a module, trained in place.
        method: losses; a copy of them is used.
        data: loaded pictures.
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
    """Models, method and pictures that fit each other.

    Attributes:
        data: pictures as the recipe asks for them.
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


def prepare(recipe: Recipe, inputs: Inputs, reporter: Reporter, machine: Machine) -> Job:
    """Check everything and build everything, cheapest first, so that a mistake shows before any time is spent.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        reporter: told about pictures that were left out.
        machine: where this process computes.

    Raises:
        InputError: for anything that cannot work.
    """
    check_names(recipe, inputs)
    with first_process_first(machine):  # it may fill the cache
        data = inputs.data or load_pictures(recipe.data)
    for line in data.broken[:10]:
        reporter.say(f"left out: {line}")
    fitted = fit(recipe, inputs, data)
    data, method, teacher, joint = fitted.data, fitted.method, fitted.teacher, fitted.joint
    for line in (*set_notes(data, fitted.earlier), *(f"note: {note}" for note in notes(fitted, recipe))):
        reporter.say(line)
    found = inputs.contents or contents(data)
    path = Path(recipe.run.runs) / recipe.run_name
    weights = asked = key = None
    parts: dict[str, str] = {}
    if teacher is not None:
        weights, asked, parts = fingerprint(teacher), probe(teacher, data), teacher_parts(teacher)
        key = _bank_key(recipe, machine, fitted, found, (f"{weights}-{digest_of(parts)}", asked), reporter)
        if not decides(inputs.teacher, recipe.flat()["teacher"], teacher):
            parts = {}
    begun = fitted.student_parts
    if inputs.student is not None:
        begun = as_left(begun, inputs.student, RunFolder(path))
    same = identity(found, begun, parts, fitted.method_parts, asked)
    settings, given = settings_of(recipe, data, joint.student, machine), _inputs(data, joint.student, weights, key)
    given |= {"device": machine.device.type, "identity": same}
    with first_process_first(machine):
        need = _disk_need(joint.student, method, recipe) + samples_bytes(data)
        run = open_run(path, settings, given, need, first=machine.first)
    if machine.first and not run.finished:
        write_samples(run, data, fitted.earlier.values())
    if (there := run.config().get("device", machine.device.type)) != machine.device.type:
        reporter.say(f"note: this run was begun on {there} and goes on on {machine.device.type}; the last bits differ")
    run = replace(run, trust=inputs.trust.inside(path))
    return Job(joint.student, teacher, method, data, recipe, run, machine, joint.student_view, joint.teacher_view, key)


def _bank_key(
    recipe: Recipe,
    machine: Machine,
    fitted: Fitted,
    found: Mapping[str, str],
    teacher: tuple[str, Probe],
    reporter: Reporter,
) -> BankKey | None:
    """The name of the teacher's stored logits; None where none are stored."""
    if recipe.run.bank is None:
        return None
    if not fitted.method.bankable:
        reporter.say(f"note: bank= is not used: {fitted.method.text} reads more of the teacher than its logits")
        return None
    pictures = "-".join(found[f"{side} images"] for side in ("training", "validation"))
    return bank_key(
        fitted.data, teacher=teacher[0], probe=teacher[1], pictures=pictures, seed=recipe.run.seed,
        precision=machine.precision,
    )  # fmt: skip


def fit(recipe: Recipe, inputs: Inputs, data: DataSet) -> Fitted:
    """Build the models and let the method see both; nothing is written.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        data: the pictures as they were loaded.

    Raises:
        InputError: for anything that cannot work.
    """
    models = recipe.models
    torch.manual_seed(recipe.run.seed)  # losses that are built from text may draw initial weights
    if inputs.method is not None:
        method = copied(inputs.method)  # what a method of one's own learns in one run must not enter the next
    else:
        text = models.method if isinstance(models, DistillModels) else "ce"
        method = parse_method(text, inputs.trust.of(text))
    losses = method_parts(method, given=inputs.method is not None)
    data = as_asked(data, recipe.data, models.teacher if isinstance(models, DistillModels) else "")
    method.check(len(data.train.classes), recipe.run.epochs)
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
    found = []
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


def check_names(recipe: Recipe, inputs: Inputs) -> None:
    """Refuse unknown models and methods, and teachers without weights, before a picture is read.

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


def with_picture_size(recipe: Recipe) -> Recipe:
    """The recipe with pictures of the size that its teacher's run had, or its model's, where it gives none."""
    models = recipe.models
    begun_from = models.model if isinstance(models, TrainModel) else models.teacher
    run = RunFolder(Path(begun_from))
    if recipe.data.image_size is not None or not run.finished:
        return recipe
    return replace(recipe, data=replace(recipe.data, image_size=run.config().get("image_size")))


def load_pictures(options: DataOptions, copies: int | None = None) -> DataSet:
    """Read the pictures that the options name; ``copies`` as for :func:`stillroom.data.load_data`."""
    return load_data(
        options.data,
        root=options.root,
        image_size=options.image_size,
        class_depth=options.class_depth,
        first_classes=options.first_classes,
        per_class=options.per_class,
        val_fraction=options.val_fraction,
        skip_broken=options.skip_broken,
        copies=copies,
    )


def as_asked(data: DataSet, options: DataOptions, teacher: str) -> DataSet:
    """Put the user's augmentation and normalisation in place of the set's own.

    Without either, a teacher from a run folder sees pictures normalised as in its own training.
    """
    asked = {name: getattr(options, name) for name in ("pad", "flip", "rotate", "min_scale")}
    data = replace(data, augment=replace(data.augment, **{k: v for k, v in asked.items() if v is not None}))
    mean, std = options.mean, options.std
    if mean is None and teacher and is_run(teacher):
        config = RunFolder(Path(teacher)).config()
        mean, std = config["mean"], config["std"]
    if mean is None or std is None:
        return data
    channels = data.train.images.shape[1]
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"mean={mean}, std={std}: the pictures have {channels} channels, give {channels} numbers each")
    return replace(data, mean=tuple(mean), std=tuple(std))


def examples(data: DataSet, method: Method, seed: int) -> Batch:
    """A few training pictures as they are, for shapes and statistics."""
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


def _inputs(data: DataSet, student: nn.Module, weights: str | None, key: BankKey | None) -> dict[str, Any]:
    """What the run depends on beyond its settings."""
    images = data.train.images
    return {
        "teacher_bank": None if key is None else key.digest,
        "picture_shape": list(images.shape[1:]),
        "train_pictures": len(data.train),
        "val_pictures": len(data.val),
        "classes": list(data.train.classes),
        "teacher_weights": weights,
        "reused_head": student.plan() if isinstance(student, ReusedHead) else None,
    }


def _disk_need(student: nn.Module, method: Method, recipe: Recipe) -> int:
    """Bytes for two states (the old one stays until the new one is whole), the best and the final weights."""
    weights, connectors = (_bytes(module) for module in (student, method))
    moments = 2 if recipe.optim.optimizer == "adamw" else 1
    return int(2 * (weights + connectors) * (1 + moments) + 2 * weights + 1_000_000)


def _bytes(module: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())
