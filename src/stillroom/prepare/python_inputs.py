"""Objects passed from Python in place of names: models, a method, a data set; and the checks on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from stillroom.config import DataOptions
from stillroom.data import DataSet
from stillroom.errors import InputError, first_line
from stillroom.fingerprint import deep_copy, held_by
from stillroom.methods import Method
from stillroom.trust import NOTHING, Trust

LOADING = (
    "image_size", "view_size", "class_depth", "only_classes", "first_classes", "per_class", "val_fraction",
    "hold_out", "skip_broken", "labels",
)  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Objects that replace names of a recipe. None: build the object from its name.

    Attributes:
        teacher: a trained module.
        student: a module, trained in place.
        method: losses; a copy of them is used.
        data: loaded images.
        fingerprints: of ``data``, from :func:`stillroom.prepare.run_identity.data_fingerprints`, where the caller has
            them already.
        trust: which names in the recipe, and in run folders that it names, may be imported or fetched.
    """

    teacher: nn.Module | None = None
    student: nn.Module | None = None
    method: Method | None = None
    data: DataSet | None = None
    fingerprints: Mapping[str, str] | None = None
    trust: Trust = NOTHING


def refuse_loading(data: object, settings: Mapping[str, Any]) -> None:
    """Refuse loading settings beside a loaded data set, where they would have no effect.

    Args:
        data: as passed from Python.
        settings: as passed from Python.

    Raises:
        InputError: naming the setting and what to do.
    """
    if not isinstance(data, DataSet):
        return
    usual = {field.name: field.default for field in fields(DataOptions)}
    usual["image_size"] = max(data.input_shape[1:])  # says what is so anyway
    for name in LOADING:
        if settings.get(name) not in (None, usual[name]):
            raise InputError(
                f"{name}={settings[name]!r} does nothing to a DataSet, which is loaded already: give it to load_data, "
                "which makes one, or give data= the name or folder"
            )


def refuse_lazy(role: str, module: nn.Module | None) -> None:
    """Refuse a module with lazy layers: it has no initial weights yet.

    Args:
        role: the argument's name.
        module: as passed from Python, or None.

    Raises:
        InputError: naming the layer and what to do.
    """
    for name, value in () if module is None else (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(value):
            raise InputError(
                f"{role}: {name} has no shape yet (a lazy layer): call the module once on a batch of images, "
                f"such as {role}(torch.zeros(2, 3, 32, 32)), before you pass it"
            )


def own_copy(method: Method, student: nn.Module | None) -> Method:
    """Copy a method, so that what it learns in one run does not enter the next.

    Args:
        method: as passed from Python.
        student: the module that will be trained, if one was passed.

    Raises:
        InputError: a loss cannot be copied, or its copy would hold a copy of the student's weights.
    """
    try:
        copy = deep_copy(method)
    except Exception as error:
        raise InputError(
            f"method={method.text!r} cannot be copied for the run ({first_line(error)}); keep numbers, text, or "
            "tensors without a graph (tensor.detach()) in a loss"
        ) from error
    if student is None:
        return copy
    weights = {id(value) for value in student.parameters() if value.requires_grad}
    for term, copied_term in zip(method.terms, copy.terms, strict=True):
        if weights & held_by(term.loss) - held_by(copied_term.loss):
            raise InputError(
                f"loss {type(term.loss).__name__} holds weights of the student. A run works with a copy of its losses, "
                "and the copy's weights would not be those that are trained: let forward ask for what it needs (such "
                "as student_logits), or hold a function, lambda: student.parameters()"
            )
    return copy
