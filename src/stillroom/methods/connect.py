"""Connecting a method to models: checks that they provide what its losses need, and builds the connectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.errors import InputError, first_line
from stillroom.fingerprint import deep_copy
from stillroom.methods.method import Method, named
from stillroom.models.model_parts import ModelParts, PartsReader
from stillroom.models.output import evaluating, logits_of
from stillroom.models.probe import pair_levels, probe_model
from stillroom.models.reused_classifier import reuse_head


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


def connect(
    method: Method, student: nn.Module, teacher: nn.Module | None, examples: Batch, train_labels: Tensor
) -> Joint:
    """Check that both models provide what the method needs, and build its connectors.

    Args:
        method: its losses build their connectors, on the CPU.
        student: the user's module.
        teacher: None for a method without a teacher.
        examples: a few training images, at least two, on the CPU; with a strong view if the method needs one.
        train_labels: (N,) int64, the label of each sample id, -1 for ids that do not occur.

    Raises:
        InputError: a model lacks what a loss needs, or a loss refuses the shapes.
    """
    if method.projector_factor is not None and teacher is not None:
        with _naming(method, "it"):
            student = reuse_head(student, teacher, examples.images, factor=method.projector_factor)
    views: dict[str, ModelParts] = {}
    models = {"student": student} | ({} if teacher is None else {"teacher": teacher})
    for side, model in models.items():
        if method.parts_of(side):
            views[side] = probe_model(model, examples.images)
    if len(views) == 2:
        views["student"], views["teacher"] = pair_levels(views["student"], views["teacher"])
    _check(method, views)
    if not views and not method.connect_needs:
        return Joint(student, None, None)
    outputs = {side: _output(model, views.get(side), method.parts_of(side), examples) for side, model in models.items()}
    _build(method, outputs, train_labels)
    _try(method, outputs, examples)
    return Joint(student, views.get("student"), views.get("teacher"))


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


def _output(model: nn.Module, offers: ModelParts | None, parts: tuple[str, ...], examples: Batch) -> Output:
    """A model's output for the examples, without gradients, in evaluation mode."""
    with evaluating(model), torch.no_grad():
        if offers is None:
            parts_read: dict[str, Any] = {}
            logits = logits_of(model(examples.images)).float()
        else:
            reader = PartsReader(model, offers, parts)
            try:
                logits, parts_read = logits_of(model(examples.images)).float(), reader.read()
            finally:
                reader.close()
        if examples.strong is not None:
            parts_read["logits_strong"] = logits_of(model(examples.strong)).float()
    return Output(logits, parts_read)


def _build(method: Method, outputs: dict[str, Output], train_labels: Tensor) -> None:
    available: dict[str, Any] = {"train_labels": train_labels}
    for side, output in outputs.items():
        available |= named(side, output)
    for term in method.terms:
        if term.connect_needs:
            with _naming(method, term.name):
                build: Any = term.loss.connect
                build(**{name: available[name] for name in term.connect_needs})


def _try(method: Method, outputs: dict[str, Output], examples: Batch) -> None:
    """Compute the losses once to find errors before training; on a copy, because a pass may change buffers."""
    trial = deep_copy(method)
    labelled = (examples.labels >= 0).sum().clamp_min(1)
    for epoch in (1, method.initial_epochs + 1):
        with _naming(method, "a loss"), torch.no_grad():
            trial(outputs["student"], outputs.get("teacher"), examples.labels, epoch, examples.ids, labelled)


@contextmanager
def _naming(method: Method, who: str) -> Iterator[None]:
    """Turn the error of a loss into an InputError that names the method."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        reason = str(error) if isinstance(error, ValueError) else first_line(error)
        raise InputError(f"method={method.text!r}: {who} cannot be used with these models: {reason}") from error
