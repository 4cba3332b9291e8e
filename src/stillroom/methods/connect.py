"""Connecting a method to models: checks that they provide what its losses need, and builds the connectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.errors import InputError, first_line
from stillroom.fingerprint import deep_copy
from stillroom.methods.method import Method, named
from stillroom.methods.term import Term
from stillroom.models.hooks import inside
from stillroom.models.model_parts import ModelParts, PartsReader
from stillroom.models.output import evaluating, logits_of
from stillroom.models.probe import pair_levels, probe_model
from stillroom.models.reused_classifier import reuse_head

Rows = tuple[Tensor, Tensor | None, Tensor | None]  # target and ids of the logits' rows, number of labels (see Method)


@dataclass(frozen=True)
class Joint:
    """The models of a connected method.

    Attributes:
        student: the trained module: the given one, or its wrapper if a loss reuses the teacher's classifier.
        student_view: where its parts are read; None for logits only.
        teacher_view: the same for the teacher.
    """

    student: nn.Module
    student_view: ModelParts | None
    teacher_view: ModelParts | None


@dataclass(frozen=True)
class TeacherSide:
    """What a method can be connected to of a teacher.

    Attributes:
        module: the network; None where it is elsewhere, in a file or behind a server.
        images: makes a batch's images as it takes them.
        output: its logits for a batch.
        why: why there is no module, for messages.
        headless: whether the network has no classifier and its output is the embedding; ``output`` then has empty
            logits (B, 0).
        own_classes: whether the network predicts other classes than the output has, so that its classifier is of no
            use to the student.
    """

    module: nn.Module | None
    images: Callable[[Batch], Tensor]
    output: Callable[[Batch], Output]
    why: str = ""
    headless: bool = False
    own_classes: bool = False

    @classmethod
    def like_student(cls, module: nn.Module, *, headless: bool = False) -> TeacherSide:
        """A network that takes the images of a batch as the student does."""

        def output(batch: Batch) -> Output:
            return Output(batch.images.new_zeros(len(batch.images), 0)) if headless else _logits(module, batch)

        return cls(module, lambda batch: batch.images, output, headless=headless)


def connect(
    method: Method, student: nn.Module, teacher: TeacherSide | None, examples: Batch, train_labels: Tensor
) -> Joint:
    """Check that both models provide what the method needs, and build its connectors.

    Args:
        method: its losses build their connectors, on the CPU.
        student: the user's module.
        teacher: its side; None for a method without a teacher.
        examples: a few training images, at least two, on the CPU; with a strong view if the method needs one.
        train_labels: (N,) int64, the label of each sample id, -1 for ids that do not occur.

    Raises:
        InputError: a model lacks what a loss needs, or a loss refuses the shapes.
    """
    if teacher is not None:
        _require_module(method, teacher)
        _require_classifier(method, teacher)
    if method.projector_factor is not None and teacher is not None and teacher.module is not None:
        with _naming(method, "it"):
            given = (examples.images, teacher.images(examples))
            student = reuse_head(student, teacher.module, *given, factor=method.projector_factor)
    views: dict[str, ModelParts] = {}
    if method.parts_of("student"):
        views["student"] = probe_model(student, examples.images)
    if teacher is not None and teacher.module is not None and method.parts_of("teacher"):
        views["teacher"] = probe_model(teacher.module, teacher.images(examples), headless=teacher.headless)
    if len(views) == 2:
        views["student"], views["teacher"] = pair_levels(views["student"], views["teacher"])
    _check(method, views)
    if not views and not method.connect_needs:
        return Joint(student, None, None)
    logits = _logits(student, examples)
    outputs = {
        "student": _with_parts(student, views.get("student"), method.parts_of("student"), examples.images, logits)
    }
    if teacher is not None:
        module = teacher.module or nn.Identity()
        wanted = method.parts_of("teacher")
        shown = teacher.images(examples)
        outputs["teacher"] = _with_parts(module, views.get("teacher"), wanted, shown, teacher.output(examples))
    labelled = (examples.labels >= 0).sum().clamp_min(1)
    connect_outputs(method, outputs, train_labels, (examples.labels, examples.ids, labelled))
    return Joint(student, views.get("student"), views.get("teacher"))


def connect_outputs(method: Method, outputs: Mapping[str, Output], train_labels: Tensor | None, rows: Rows) -> None:
    """Build a method's connectors from outputs for a few examples, and compute its losses once.

    Args:
        method: its losses build their connectors.
        outputs: of the "student" and, unless the method reads no teacher, of the "teacher", on the CPU.
        train_labels: (N,) int64, the label of each sample id; None where no loss may read it.
        rows: what the logits have a row for.

    Raises:
        InputError: a loss refuses the outputs.
    """
    _build(method, outputs, train_labels)
    _try(method, outputs, rows)


def _check(method: Method, views: dict[str, ModelParts]) -> None:
    """Raise an error that names the loss if a model lacks a part that it needs."""
    for side, offers in views.items():
        for part in method.parts_of(side):
            reason = offers.lacks(part)
            if reason:
                name = f"{side}_{part}"
                term = next(t for t in method.terms if name in {*t.needs, *t.connect_needs})
                raise InputError(
                    f"method={method.text!r}: {term.name} needs {name}, but {reason}; "
                    "use a loss on logits or embeddings, such as ldrld or rkd, or another model"
                )


def _require_module(method: Method, teacher: TeacherSide) -> None:
    """Raise an error that names the loss if it reads more than the logits of a teacher that has nothing else."""
    reused = method.projector_factor is not None
    if teacher.own_classes and (reused or "head" in method.parts_of("teacher")):
        names = (term.name for term in method.terms if term.properties.reuses_head or _reads(term, "teacher_head"))
        raise InputError(
            f"method={method.text!r}: {next(names)} uses the teacher's classifier, which has other classes than the "
            "data; fine-tune the teacher on the data first (stillroom train), or use another method"
        )
    if teacher.module is not None or not (reused or method.parts_of("teacher")):
        return
    term = next(t for t in method.terms if t.properties.reuses_head or _reads_network(t))
    raise InputError(
        f"method={method.text!r}: {term.name} reads features of the teacher, but {teacher.why}; use a loss on logits, "
        "such as ldrld or kd, or a teacher that is a PyTorch network"
    )


def _require_classifier(method: Method, teacher: TeacherSide) -> None:
    """Raise an error that names the loss if it reads the classifier, or its logits, of a teacher without one."""
    if not teacher.headless or teacher.module is None:
        return
    words = {"teacher_logits": "logits", "teacher_logits_strong": "logits", "teacher_head": "classifier"}
    for term in method.terms:
        reads = [*term.needs, *term.connect_needs, *(["teacher_head"] if term.properties.reuses_head else [])]
        if found := next((words[name] for name in reads if name in words), None):
            raise InputError(
                f"method={method.text!r}: {term.name} needs the teacher's {found}, but teacher "
                f"{type(inside(teacher.module)).__name__} has no classifier; use a loss on embeddings, such as "
                "embed_cosine, embed_queue or rkd"
            )


def _reads(term: Term, name: str) -> bool:
    return name in {*term.needs, *term.connect_needs}


def _reads_network(term: Term) -> bool:
    names = {*term.needs, *term.connect_needs} - {"teacher_logits", "teacher_logits_strong"}
    return any(name.startswith("teacher_") for name in names)


def _logits(model: nn.Module, examples: Batch) -> Output:
    """A model's logits for the examples, without gradients, in evaluation mode."""
    with evaluating(model), torch.no_grad():
        logits = logits_of(model(examples.images)).float()
        if examples.strong is None:
            return Output(logits)
        return Output(logits, {"logits_strong": logits_of(model(examples.strong)).float()})


def _with_parts(
    model: nn.Module, offers: ModelParts | None, parts: tuple[str, ...], images: Tensor, logits: Output
) -> Output:
    """The output with the parts that a method needs of a model."""
    if offers is None:
        return logits
    reader = PartsReader(model, offers, parts)
    try:
        with evaluating(model), torch.no_grad():
            model(images)
            return Output(logits.logits, {**logits.parts, **reader.read()})
    finally:
        reader.close()


def _build(method: Method, outputs: Mapping[str, Output], train_labels: Tensor | None) -> None:
    available: dict[str, Any] = {"train_labels": train_labels}
    for side, output in outputs.items():
        available |= named(side, output)
    for term in method.terms:
        if term.connect_needs:
            with _naming(method, term.name):
                build: Any = term.loss.connect
                build(**{name: available[name] for name in term.connect_needs})


def _try(method: Method, outputs: Mapping[str, Output], rows: Rows) -> None:
    """Compute the losses once to find errors before training; on a copy, because a pass may change buffers."""
    trial = deep_copy(method)
    target, ids, labelled = rows
    for epoch in (1, method.initial_epochs + 1):
        with _naming(method, "a loss"), torch.no_grad():
            trial(outputs["student"], outputs.get("teacher"), target, epoch, ids, labelled)


@contextmanager
def _naming(method: Method, who: str) -> Iterator[None]:
    """Turn the error of a loss into an InputError that names the method."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ValueError) else first_line(error)
        raise InputError(f"method={method.text!r}: {who} cannot be used with these models: {reason}") from error
