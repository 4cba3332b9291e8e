"""State dict names: find a model's tensors in a checkpoint that stores them under other names or beside others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from stillroom.errors import InputError
from stillroom.files import shown

_EMA = re.compile(r"(^|[._])ema([._]|$)")  # "ema_model.", "model_ema.module."
_SHOWN = 3


def find_prefix(state: Mapping[str, Any], expected: Mapping[str, Any], path: Path, *, ema: bool) -> str:
    """Find what stands before the names of a model's tensors in a checkpoint.

    DataParallel writes ``module.``, torch.compile ``_orig_mod.``, Lightning the attribute that holds the network, such
    as ``model.``, and self-supervised methods ``backbone.`` or ``module.encoder_q.``. The prefix is the one under which
    most of the expected names are found.

    Args:
        state: the checkpoint.
        expected: the model's own state dict.
        path: the file, for messages.
        ema: whether the averaged weights are taken where a checkpoint has both under two prefixes.

    Returns:
        The prefix with its dot; empty where the names are stored as they are, or none of them is found.

    Raises:
        InputError: several networks in the checkpoint fit equally well.
    """
    found = Counter(prefix for name in state for prefix, rest in _splits(name) if rest in expected)
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if not best or "" in best:
        return ""
    averaged = [prefix for prefix in best if is_averaged(prefix)]
    others = [prefix for prefix in best if prefix not in averaged]
    choice = (averaged or others) if ema else (others or averaged)
    if len(choice) > 1:  # a name such as "weight" alone says little
        choice = [prefix for prefix in choice if _shares_shapes(state, prefix, expected)] or [""]
    if len(choice) > 1:
        names = ", ".join(shown(prefix, 80) for prefix in choice[:_SHOWN]) + ", …" * (len(choice) > _SHOWN)
        raise InputError(
            f"{path} holds {len(choice)} networks that fit, under {names}; save the state dict of one in a file of "
            "its own"
        )
    return choice[0]


def _shares_shapes(state: Mapping[str, Any], prefix: str, expected: Mapping[str, Any]) -> bool:
    """Whether any tensor under a prefix has the shape of the model's tensor of that name."""
    return any(
        getattr(state.get(prefix + name), "shape", None) == value.shape
        for name, value in expected.items()
        if isinstance(value, Tensor)
    )


def is_averaged(prefix: str) -> bool:
    """Whether a prefix says that what follows is an exponential moving average (EMA) of the weights."""
    return _EMA.search(prefix) is not None


def fill_in(state: dict[str, Any], expected: Mapping[str, Any]) -> None:
    """Add entries that a valid checkpoint may leave out: tied weights, and batch counters of batch norm.

    Writers of safetensors keep only one of the tensors that share memory. torch before 0.4.1 had no batch counter,
    which only matters without momentum.

    Args:
        state: the checkpoint; changed in place.
        expected: the model's own state dict.
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


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Each prefix of a name, the empty one first, with what follows."""
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]
