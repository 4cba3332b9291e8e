"""Load weights into a model, and save them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError, first_line
from stillroom.files import shown, write_atomically
from stillroom.formatting import counted
from stillroom.models.classifier_head import head_classes, last_layers
from stillroom.models.external import converted_by_timm
from stillroom.models.state_names import fill_in, find_prefix, is_averaged
from stillroom.models.weight_files import read_state

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """What was loaded from a checkpoint; as text, what a reader of the log should know.

    Attributes:
        place: the keys under which the file holds the state dict, joined by dots; empty for a bare one.
        averaged: whether it is an exponential moving average (EMA) of the weights.
        prefix: what was dropped before the names of its tensors.
        beside: how many entries of the file are not under that prefix; they were left out.
        new_head: whether the model's head is new.
        classes: how many classes the file's head has; None if it has no head.
    """

    place: str
    averaged: bool
    prefix: str
    beside: int
    new_head: bool
    classes: int | None

    def __str__(self) -> str:
        """The facts that are not usual, in one line; empty if there are none."""
        where = f" ({self.place or self.prefix})"
        head = "no head" if self.classes is None else f"a head for {counted(self.classes, 'class')}"
        facts = (
            f"the averaged (EMA) weights{where} were loaded" if self.averaged else "",
            f"left out {counted(self.beside, 'tensor')} outside {shown(self.prefix, 80)}" if self.beside else "",
            f"the head is new; the file has {head}" if self.new_head else "",
        )
        return "; ".join(filter(None, facts))


def load_weights(
    model: nn.Module, path: str | Path, *, new_head: bool | None = False, ema: bool = True
) -> LoadedWeights:
    """Load a checkpoint into a model, strictly: the names of the tensors must match.

    The file is a safetensors file, or a torch file with a state dict where
    :func:`stillroom.models.weight_files.read_state` looks for one. A prefix that all of the model's tensors share in
    the file is dropped, such as those of DataParallel, torch.compile and Lightning; what is stored beside them is left
    out. No code in the file is run, and the model is not changed if the checkpoint is refused.

    Args:
        model: the model.
        path: the file.
        new_head: whether a head with another number of classes, or none, is accepted: the model's own becomes zero.
            None refuses it without a hint at this argument, for callers whose users cannot set it.
        ema: whether the averaged weights are taken where the file has both, as timm's ``load_checkpoint`` does.

    Returns:
        What was loaded.

    Raises:
        InputError: the file is missing, damaged, contains code instead of tensors, or does not fit the model.
    """
    path = Path(path)
    expected = model.state_dict()
    state, loaded = _stored_for(model, expected, path, ema)
    if new_head and loaded.classes != head_classes(model):
        state = _with_new_head(state, model, expected, loaded.classes)
        loaded = replace(loaded, new_head=True)
    fill_in(state, expected)
    _check_names(model, state, expected, path, hint=new_head is not None)
    _check_kinds(state, expected, path)
    _check_shapes(model, state, expected, path, hint=new_head is not None)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not fit {type(model).__name__}: {first_line(error)}") from error
    return loaded


def classes_of_checkpoint(path: str | Path, model: nn.Module) -> int | None:
    """How many classes the head in a checkpoint has.

    Args:
        path: the file.
        model: of the same architecture, with any number of classes; may be on the meta device.

    Returns:
        The number; None if the file has no head that the model names.

    Raises:
        InputError: the file cannot be read.
    """
    return _stored_for(model, model.state_dict(), Path(path), ema=True)[1].classes


def _stored_for(
    model: nn.Module, expected: Mapping[str, Any], path: Path, ema: bool
) -> tuple[dict[str, Any], LoadedWeights]:
    """Read the tensors of a file under the names that a model gives them."""
    stored = read_state(path, ema=ema)
    prefix = find_prefix(stored.tensors, expected, path, ema=ema)
    state = {name.removeprefix(prefix): value for name, value in stored.tensors.items() if name.startswith(prefix)}
    beside = len(stored.tensors) - len(state)
    if not _fits_below_head(model, state, expected):
        converted = converted_by_timm(state, model)
        if converted is not None and _fits_below_head(model, converted, expected):
            state = converted
    return state, LoadedWeights(
        place=stored.place,
        averaged=stored.averaged or is_averaged(prefix),
        prefix=prefix,
        beside=beside,
        new_head=False,
        classes=head_classes(model, state),
    )


def _fits_below_head(model: nn.Module, state: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether names and shapes are those of the model, apart from its head and batch counters."""
    heads = tuple(f"{name}." for name in last_layers(model))
    theirs, ours = (
        {
            name: getattr(value, "shape", None)
            for name, value in tensors.items()
            if not (name.startswith(heads) or name.endswith("num_batches_tracked"))
        }
        for tensors in (state, expected)
    )
    return theirs == ours


def _with_new_head(
    state: Mapping[str, Any], model: nn.Module, expected: Mapping[str, Any], classes: int | None
) -> dict[str, Any]:
    """Replace the head in a state dict by one of zeros, auxiliary heads of as many classes included."""
    heads = tuple(f"{name}." for name in last_layers(model))
    ours = head_classes(model)
    kept = {name: value for name, value in state.items() if not name.startswith(heads)}
    for name, value in expected.items():
        other = state.get(name)
        auxiliary = (
            isinstance(other, Tensor)
            and isinstance(value, Tensor)
            and (tuple(other.shape[:1]), tuple(value.shape[:1])) == ((classes,), (ours,))
            and other.shape[1:] == value.shape[1:]
        )
        if name.startswith(heads) or auxiliary:
            kept[name] = torch.zeros_like(value)
    return kept


def _check_names(
    model: nn.Module, state: Mapping[str, Any], expected: Mapping[str, Any], path: Path, *, hint: bool
) -> None:
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    complaints = [
        f"{len(names)} {kind} ({', '.join(shown(name, 80) for name in names[:_SHOWN])}{', …' * (len(names) > _SHOWN)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    heads = tuple(f"{name}." for name in last_layers(model))
    if complaints and all(name.startswith(heads) for name in (*missing, *unexpected)):
        fresh = "load it with new_head=true, which starts with a new head, or " if hint else ""
        raise InputError(
            f"{path} has no head for the model: {' and '.join(complaints)}; {fresh}give a checkpoint that has one"
        )
    if complaints:
        raise InputError(
            f"{path} is a checkpoint of another architecture: of the model's {len(expected)} tensors "
            f"{' and '.join(complaints)}; name the model it was trained as"
        )


def _check_kinds(state: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    """Refuse values that would make torch fail when half of the weights are loaded."""
    wrong = [
        f"{shown(name, 80)} is {kind}"
        for name, value in expected.items()
        if isinstance(value, Tensor) and (kind := _unfit_kind(state[name], value))
    ]
    if wrong:
        more = "; …" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"{path} does not fit: {len(wrong)} entries are not plain tensors ({'; '.join(wrong[:_SHOWN])}{more}); "
            "save model.state_dict() of the model as it was trained"
        )


def _unfit_kind(value: Any, expected: Tensor) -> str:
    """Return what a value is if it cannot be copied into the expected tensor, or an empty string."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_meta and not expected.is_meta:
        return "a tensor without values"
    if value.layout is not torch.strided or value.is_quantized != expected.is_quantized:
        return "a sparse or quantized tensor"
    if value.is_complex() and not expected.is_complex():
        return f"of type {value.dtype}"
    try:
        value.to(expected.dtype)
    except (RuntimeError, TypeError):
        return f"of type {value.dtype}"
    return ""


def _check_shapes(
    model: nn.Module, state: Mapping[str, Any], expected: Mapping[str, Any], path: Path, *, hint: bool
) -> None:
    """Refuse other shapes, with a message of its own if only the number of classes differs."""
    wrong = {
        name: (tuple(state[name].shape), tuple(value.shape))
        for name, value in expected.items()
        if isinstance(value, Tensor) and isinstance(state[name], Tensor) and state[name].shape != value.shape
    }
    if not wrong:
        return
    counts = {(theirs[:1], ours[:1]) for theirs, ours in wrong.values()}
    only_first = all(theirs[1:] == ours[1:] and theirs and ours for theirs, ours in wrong.values())
    if (
        only_first
        and len(counts) == 1
        and not set(last_layers(model)).isdisjoint(name.rpartition(".")[0] for name in wrong)
    ):
        theirs, ours = next(iter(wrong.values()))
        fresh = (
            f", a checkpoint for {ours[0]}, or new_head=true for a new head"
            if hint
            else (f", or a checkpoint for {ours[0]}")
        )
        raise InputError(
            f"{path} does not fit: the checkpoint has {counted(theirs[0], 'class')}, the model {ours[0]} as the data; "
            f"give data with these {theirs[0]} classes{fresh}"
        )
    shown = [f"{name} is {theirs} there and {ours} here" for name, (theirs, ours) in list(wrong.items())[:_SHOWN]]
    raise InputError(
        f"{path} does not fit: {len(wrong)} tensors have other shapes ({'; '.join(shown)}"
        f"{'; …' if len(wrong) > _SHOWN else ''}); build the model as it was trained"
    )


def save_weights(model: nn.Module, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write a model's state dict as safetensors, atomically.

    After a crash there is the old file or the new one. Tensors that share memory (tied weights) are written under each
    of their names.

    Args:
        model: the model.
        path: the file; its folder is created if it is missing.
        metadata: text for the file's header.

    Raises:
        InputError: the state dict contains something other than tensors.
        OSError: the file cannot be written, for example because the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = _separate(model.state_dict())
    header = {"format": "pt", **(metadata or {})}
    try:
        write_atomically(Path(path), lambda aside: save_file(tensors, aside, metadata=header))
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # the system's error number is only in the text
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _separate(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors of which no two share memory, as the format requires."""
    tensors: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"the model's state {name!r} is a {type(value).__name__}; safetensors stores tensors only")
        tensor = value.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if memory in written else tensor
        written.add(memory)
    return tensors
