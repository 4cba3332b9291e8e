"""Student wrappers: modules that a method builds around the user's student and trains in its place.

The rest of the program treats a student alike, wrapped or not, through these functions. The only wrapper is
:class:`stillroom.models.reused_classifier.ReusedHead`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from stillroom.models.reused_classifier import ReusedHead, from_plan

KEY = "reused_head"  # in the configurations of runs and exports


def wrapper_record(student: nn.Module) -> dict[str, Any]:
    """The entry for a configuration that says how to build the student's wrapper again; None under its key without one.

    Example:
        >>> wrapper_record(nn.Flatten())
        {'reused_head': None}
    """
    return {KEY: student.plan() if isinstance(student, ReusedHead) else None}


def rewrapped(student: nn.Module, config: Mapping[str, Any], num_classes: int) -> nn.Module:
    """Put the recorded wrapper, with fresh weights, around a student.

    Args:
        student: a student that already has its wrapper is returned as it is.
        config: of the run or export; without a recorded wrapper the student is returned as it is.
        num_classes: length of the logits.

    Raises:
        InputError: the record, which comes from a file, describes no wrapper.
    """
    plan = config.get(KEY)
    return student if not plan or isinstance(student, ReusedHead) else from_plan(student, plan, num_classes)


def unwrapped(student: nn.Module) -> nn.Module:
    """The user's student inside its wrapper; without one the student itself."""
    return student.student if isinstance(student, ReusedHead) else student


def unwrapped_state(state: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a state dict that belong to the user's student, under their names in the student.

    Args:
        state: of the student in the form in which it was trained.
        config: of its run.
    """
    prefix = "student." if config.get(KEY) else ""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def remove_wrapper_hooks(student: nn.Module) -> None:
    """Remove the wrapper's permanent hooks from the user's student; the wrapper keeps working."""
    if isinstance(student, ReusedHead):
        student.remove_hook()
