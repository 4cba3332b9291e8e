"""Checks that an argument is a tensor, with an error that says where the tensor is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def check_tensor(name: str, value: Any) -> None:
    """Refuse everything but a tensor, with an error that says what to pass instead.

    Args:
        name: the argument's name.
        value: what was passed for it.

    Raises:
        ValueError: naming the argument, the type of its value, and where in it the tensor is.

    Example:
        >>> check_tensor("student_logits", {"logits": [1.0, 2.0]})
        Traceback (most recent call last):
        ...
        ValueError: student_logits is a dict: pass a tensor, such as output["logits"]
    """
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} is {_kind(value)}: pass a tensor{_instead(value)}")


def check_levels(name: str, value: Any) -> None:
    """Refuse everything but a tuple or list of tensors, one a level.

    Args:
        name: the argument's name.
        value: what was passed for it.

    Raises:
        ValueError: naming the argument and the type of its value.

    Example:
        >>> check_levels("student_maps", None)
        Traceback (most recent call last):
        ...
        ValueError: student_maps is None: pass a tuple of tensors, one a level
    """
    if not isinstance(value, (tuple, list)):
        what = "a single tensor" if isinstance(value, Tensor) else _kind(value)
        raise ValueError(f"{name} is {what}: pass a tuple of tensors, one a level")


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _instead(value: Any) -> str:
    """Where the tensor is, for what models and loaders usually return."""
    if getattr(value, "logits", None) is not None:
        return ", such as output.logits"
    if isinstance(value, Mapping):
        keys = [str(key) for key in value]
        return f', such as output["{"logits" if "logits" in keys or not keys else keys[0]}"]'
    if isinstance(value, (tuple, list)):
        inner = bool(value) and isinstance(value[0], Tensor)
        return ", such as output[0]" if inner else ", such as torch.tensor(values)"
    return ", such as torch.from_numpy(array)" if hasattr(value, "__array__") else ""
