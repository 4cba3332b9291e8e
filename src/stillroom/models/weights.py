"""Load weights into a model, and save them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError, first_line
from stillroom.files import shown, write_atomically
from stillroom.formatting import counted
from stillroom.models.weight_files import read_checkpoint

_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 3


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into a model, strictly: the names of the tensors must match.

    The file is a safetensors file, or a torch file with a state dict, bare or under ``model``, ``state_dict``,
    ``model_state_dict`` or ``net`` (as RepDistiller, mdistiller, timm and Lightning write them). A prefix of
    DataParallel or torch.compile is dropped. No code in the file is run, and the model is not changed if the checkpoint
    is refused.

    Args:
        model: the model.
        path: the file.

    Raises:
        InputError: the file is missing, damaged, contains code instead of tensors, or does not fit the model.
    """
    path = Path(path)
    expected = model.state_dict()
    state = _strip_prefixes(read_checkpoint(path), expected)
    _fill_in(state, expected)
    _check_names(state, expected, path)
    _check_kinds(state, expected, path)
    _check_shapes(model, state, expected, path)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not fit {type(model).__name__}: {first_line(error)}") from error


def _strip_prefixes(state: dict[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the prefixes of DataParallel and torch.compile, which may be nested."""
    while state:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None or any(name.startswith(prefix) for name in expected):
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _fill_in(state: dict[str, Any], expected: Mapping[str, Any]) -> None:
    """Add entries that a valid checkpoint may leave out: tied weights, and batch counters of batch norm.

    Writers of safetensors keep only one of the tensors that share memory. torch before 0.4.1 had no batch counter,
    which only matters without momentum.
    """
    present = {_memory(expected[name]): name for name in state if isinstance(expected.get(name), Tensor)}
    for name, value in expected.items():
        if name in state or not isinstance(value, Tensor):
            continue
        twin = present.get(_memory(value)) if value.numel() else None
        if twin is not None:
            state[name] = state[twin]
        elif name.endswith("num_batches_tracked"):
            state[name] = value


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    """Return a key that is equal only for tensors that share memory. Tensors on the meta device share none."""
    if tensor.is_meta:
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())


def _check_names(state: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    complaints = [
        f"{len(names)} {kind} ({', '.join(shown(name, 80) for name in names[:_SHOWN])}{', …' * (len(names) > _SHOWN)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
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


def _check_shapes(model: nn.Module, state: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
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
    if only_first and len(counts) == 1 and _head_of(model) in {name.rpartition(".")[0] for name in wrong}:
        theirs, ours = next(iter(wrong.values()))
        raise InputError(
            f"{path} does not fit: the checkpoint has {counted(theirs[0], 'class')}, the model {ours[0]} as the data; "
            f"give data with these {theirs[0]} classes, or a checkpoint for {ours[0]}"
        )
    shown = [f"{name} is {theirs} there and {ours} here" for name, (theirs, ours) in list(wrong.items())[:_SHOWN]]
    raise InputError(
        f"{path} does not fit: {len(wrong)} tensors have other shapes ({'; '.join(shown)}"
        f"{'; …' if len(wrong) > _SHOWN else ''}); build the model as it was trained"
    )


def _head_of(model: nn.Module) -> str:
    """Return the name of the last linear layer or convolution."""
    heads = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return heads[-1] if heads else ""


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
