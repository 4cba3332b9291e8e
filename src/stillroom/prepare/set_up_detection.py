"""Build detectors and a method for images with boxes, and connect the method to both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from stillroom.batch import Batch, Output
from stillroom.config import Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.engine.fine_tuning import find_head
from stillroom.errors import InputError
from stillroom.fingerprint import deep_copy
from stillroom.input_format import InputFormat
from stillroom.methods import Method
from stillroom.methods.connect import Joint, connect_outputs
from stillroom.models.output import evaluating
from stillroom.prepare.leak_check import earlier_runs, refuse_leak
from stillroom.prepare.load_dataset import with_options
from stillroom.prepare.model_builders import build_method, build_student, student_source
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.run_identity import TorchIdentity, method_parts, student_parts, torch_identity
from stillroom.prepare.setup import Setup
from stillroom.prepare.stop_images import hold_out
from stillroom.prepare.teacher_entries import teacher_entries
from stillroom.resolve_model import Fit, build
from stillroom.tasks.detection import Detection
from stillroom.tasks.region_step import input_statistics
from stillroom.teachers.detector_teacher import DetectorTeacher
from stillroom.teachers.prepared_teacher import Member, PreparedTeacher

EXAMPLES = 2  # images on which the detectors are tried
PARTS = ("logits", "features", "maps", "preact_maps", "embedding")
OFFERED = frozenset({f"{side}_{part}" for side in ("student", "teacher") for part in PARTS} | {"target", "epoch"})
OF_IMAGES = {"features", "maps", "preact_maps"}
OF_REGIONS = {"logits", "embedding"}
# Settings that a detector's training does not have, each with the value that leaves it out; loading refuses its own.
UNUSED: dict[str, dict[str, Any]] = {
    "data": {"sampling": "shuffled"},
    "optim": {"label_smoothing": 0.0, "class_weights": "none", "layer_decay": 1.0},
    "run": {"compile": False},
}


def set_up_detection(
    recipe: Recipe, inputs: Inputs, data: DataSet, *, say: Callable[[str], None] = lambda _: None
) -> Setup:
    """Build the detectors and connect the method to them; nothing is written.

    Args:
        recipe: the settings.
        inputs: objects used instead of the recipe's names.
        data: images with boxes.
        say: told how the teacher takes images.

    Raises:
        InputError: for anything that cannot work.
    """
    models = recipe.models
    _refuse_unused(recipe)
    method = _without_embeddings(build_method(recipe, inputs, supervised=1.0))
    method.supervised_name = "supervised"
    losses = method_parts(method, given=inputs.method is not None)
    _check_needs(method)
    data = replace(data, train=data.train.hashed(), val=data.val.hashed())
    data = with_options(data, recipe.data, "")
    deep_copy(method).check(len(data.train.classes) + 1, recipe.run.epochs)
    student = build_student(recipe, inputs, data)
    if recipe.data.mean is None:
        mean, std = input_statistics(student)
        data = replace(data, mean=mean, std=std)
    teacher = None if isinstance(models, TrainModel) else _teacher(recipe, inputs, data, say)
    earlier = earlier_runs(recipe, inputs.teacher, inputs.student)
    refuse_leak(earlier, data, recipe.data)
    name, checkpoint, _ = student_source(recipe)
    begun = student_parts(inputs.student, name, student, checkpoint, inputs.trust.of(name))
    images = len(data.train)
    data, stop_images = hold_out(recipe, data)
    task = Detection(len(data.train.classes))
    shown = _examples(data, recipe.run.seed)
    _connect(method, task, student, teacher, shown)
    head = find_head(recipe.optim, method, student, shown.images)
    return Setup(
        data, method, Joint(student, None, None), teacher, earlier, begun, losses, head, True, images, stop_images, task
    )


def _refuse_unused(recipe: Recipe) -> None:
    """Refuse settings that have no meaning for detectors."""
    for group, settings in UNUSED.items():
        for name, usual in settings.items():
            value = getattr(getattr(recipe, group), name)
            if value != usual:
                raise InputError(
                    f"{name}={value}: this setting is for classification; leave it out for images with boxes"
                )
    optim = recipe.optim
    if optim.freeze_epochs or optim.backbone_lr_factor < 1:
        name = "freeze_epochs" if optim.freeze_epochs else "backbone_lr_factor"
        raise InputError(
            f"{name}={getattr(optim, name)}: a detector has several heads; give freeze= with names instead"
        )


def _without_embeddings(method: Method) -> Method:
    """The method with losses on the pyramid alone where they can do without the embedding, whose rows are regions."""
    terms = []
    for term in method.terms:
        make: Any = getattr(term.loss, "without_embedding", None)
        terms.append(term if make is None else replace(term, loss=make()))
    return Method(terms, method.ce, method.text)


def _check_needs(method: Method) -> None:
    """Refuse losses that read what a detector does not give, or compare rows of images with rows of regions."""
    for term in method.terms:
        reads = next((name for name in (*term.needs, *term.connect_needs) if name not in OFFERED), None)
        if term.properties.reuses_head:
            reads = "teacher_head"
        if reads is not None:
            raise InputError(
                f"method={method.text!r}: {term.name} reads {reads}, which a detector does not give; use a loss on "
                "logits (kd, dkd, ldrld ...), maps (at, fitnet, reviewkd ...) or embeddings (rkd, pkt ...)"
            )
        parts = {name.partition("_")[2] for name in (*term.needs, *term.connect_needs)}
        if parts & OF_IMAGES and (parts & OF_REGIONS or "target" in term.needs):
            raise InputError(
                f"method={method.text!r}: {term.name} reads maps, which have a row for each image, together with "
                "predictions, which have a row for each region; use a loss on one of them"
            )


def _teacher(recipe: Recipe, inputs: Inputs, data: DataSet, say: Callable[[str], None]) -> PreparedTeacher:
    """The frozen detector with the classes of the data."""
    (entry, *others), _, _ = teacher_entries(recipe, given=inputs.teacher is not None)
    if others:
        raise InputError(f"teacher={recipe.models!r}: one detector teaches; give its run folder or name")
    network = build(
        "teacher", inputs.teacher or entry.teacher, Fit.of(data), entry.checkpoint, entry.pretrained, inputs.trust
    ).cpu()
    mean, std = input_statistics(network)
    wanted = InputFormat(tuple(entry.mean or mean), tuple(entry.std or std))
    shares = wanted == InputFormat(data.mean, data.std)
    if not shares:
        say(f"{entry.teacher}: takes images with {wanted}")
    known: TorchIdentity = torch_identity(network)
    classes = data.train.classes
    made = DetectorTeacher(
        network, input_format=wanted, shares_input=shares, class_count=len(classes), classes=classes,
        identity=known.text,
    )  # fmt: skip
    facts = f"{known.weights} {wanted!r}"
    probe = made.fingerprint(data)
    member = Member(made, made, made.identity, known.weights, known.parts, facts, probe, opaque=known.opaque)
    return PreparedTeacher((member,), "probabilities", False, known.weights, known.parts, probe, facts)


def _examples(data: DataSet, seed: int) -> Batch:
    """A few training images with their boxes, without augmentation."""
    count = min(EXAMPLES, len(data.train))
    loader = data.train.loader(batch_size=count, input_format=data.input_format, shuffle=True, seed=seed)
    return next(loader.epoch(0))


def _connect(
    method: Method, task: Detection, student: nn.Module, teacher: PreparedTeacher | None, examples: Batch
) -> None:
    """Build the connectors of a method and compute its losses once."""
    trial = deep_copy(student).train()  # a pass changes running statistics
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs: dict[str, Output] = {"student": task.student_output(trial, None, examples, (0, 1))}
        if teacher is not None and method.needs_teacher:
            network: Any = teacher.members[0].raw
            with evaluating(network.model):
                outputs["teacher"] = task.on_same_rows(network.predict(examples), outputs["student"])
    target = task.target(examples, outputs["student"])
    connect_outputs(method, outputs, None, (target, None, None))
