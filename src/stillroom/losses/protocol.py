"""The protocol of a loss: what a module declares, beside computing a number, so that a training loop can use it.

A loss is an ``nn.Module``:

- The parameter names of ``forward`` say what it needs in each step.
- ``connect``, an optional method, is called once with example inputs before training and builds what depends on their
  shapes. Its parameter names say what it needs.
- ``rows``, an optional method, takes what ``forward`` takes and returns the losses of the samples, (B,), whose mean is
  the loss.
- ``stream_rows``, an optional method, takes what ``forward`` takes and returns the parts of ``rows`` by the name of the
  gradient stream that each belongs to, ``target`` or ``non_target``, for optimizers that keep them apart.
- Everything else is an attribute of the class or of the object. :class:`LossProperties` lists each one with its
  meaning, type and default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

Value = TypeVar("Value")

# What is known of a teacher's prediction, the most first. Each can be reduced to those after it. An embedding is no
# prediction: it comes from a network without a classifier.
Offer = Literal["logits", "probabilities", "top-k", "labels", "embedding"]
OFFERS: tuple[Offer, ...] = ("logits", "probabilities", "top-k", "labels")

CLOSE = 0.88  # similarity from which an unknown attribute counts as a misspelt property; "connected" is below it


def _property(default: Value, fits: Callable[[Any], bool], expected: str) -> Value:
    """A field of :class:`LossProperties` with its default, a check of the type, and the words of the error."""
    return field(default=default, metadata={"fits": fits, "expected": expected})


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _is_offer(value: Any) -> bool:
    return isinstance(value, str) and value in OFFERS


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


@dataclass(frozen=True, slots=True)
class LossProperties:
    """What a loss may declare in attributes.

    Attributes:
        needs: the names of what ``forward`` takes, for a wrapper that passes inputs on to the loss inside it. None: the
            parameter names of ``forward``.
        per_sample: the loss is the mean over samples of a number that depends on that sample alone. Several processes
            then compute it on their own parts of a batch. False: all of them get the whole batch.
        draws: ``forward`` draws random numbers. All processes then draw the same ones.
        initial_epochs: for so many epochs, from the first, only this loss is trained, with weight 1.
        final_epoch: the last epoch, counted from 1, in which the loss is computed. None: the last of the run.
        reuses_head: the student is trained with a projector and a frozen copy of the teacher's last linear layer in
            place of its own classifier.
        projector_factor: with ``reuses_head``, how many times narrower than the teacher's final map the projector is
            inside, at least 1.
        teacher_offer: the least that must be known of the teacher's prediction, for a loss that takes
            ``teacher_logits`` or ``teacher_logits_strong``. "logits": the logits themselves. "probabilities": a
            constant added to all logits of a sample changes nothing, so that log-probabilities do as well. "top-k":
            the k largest probabilities with the rest spread evenly do as well, because the loss is a divergence
            between two distributions over all classes, in which a probability counts by its size. "labels": only the
            place of the largest logit is read, and a sample whose logits are all equal is left out.

    Example:
        >>> from stillroom.losses import FT
        >>> properties_of(FT(initial_epochs=5)).initial_epochs
        5
    """

    needs: tuple[str, ...] | None = _property(None, _or_none(_is_names), "a tuple of names, or None")
    per_sample: bool = _property(False, _is_bool, "True or False")
    draws: bool = _property(False, _is_bool, "True or False")
    initial_epochs: int = _property(0, _is_count, "a whole number, at least 0")
    final_epoch: int | None = _property(None, _or_none(_is_count), "a whole number, at least 0, or None")
    reuses_head: bool = _property(False, _is_bool, "True or False")
    projector_factor: int = _property(2, lambda value: _is_count(value) and value >= 1, "a whole number, at least 1")
    teacher_offer: Offer = _property("logits", _is_offer, " or ".join(OFFERS))  # noqa: RUF009  a field


_FITS: dict[str, Callable[[Any], bool]] = {one.name: one.metadata["fits"] for one in fields(LossProperties)}
_EXPECTED: dict[str, str] = {one.name: one.metadata["expected"] for one in fields(LossProperties)}
_METHODS: dict[str, Callable[[Any], bool]] = {"connect": callable, "rows": callable, "stream_rows": callable}
_OF_MODULES = frozenset(dir(nn.Module))


def properties_of(loss: nn.Module) -> LossProperties:
    """Read what a loss declares.

    A public attribute counts as misspelt if its name is close to that of a property, ``connect``, ``rows`` or
    ``stream_rows`` and its value has the type to be expected there. Submodules, parameters and buffers do not count.

    Raises:
        ValueError: a property is of another type or out of range, or an attribute is a misspelt property.

    Example:
        >>> class Mine(nn.Module):
        ...     per_samples = True
        >>> properties_of(Mine())
        Traceback (most recent call last):
        ...
        ValueError: loss Mine has an attribute per_samples, which has no meaning; did you mean per_sample?
    """
    kind, known = type(loss).__name__, _FITS | _METHODS
    for name in sorted({*vars(loss), *dir(type(loss))} - _OF_MODULES - known.keys()):
        close = [] if name.startswith("_") else get_close_matches(name, known, 1, CLOSE)
        if close and known[close[0]](inspect.getattr_static(loss, name)):
            raise ValueError(f"loss {kind} has an attribute {name}, which has no meaning; did you mean {close[0]}?")
    found = {name: getattr(loss, name) for name in _FITS if hasattr(loss, name)}
    for name, value in found.items():
        if not _FITS[name](value):
            raise ValueError(f"loss {kind} has {name}={value!r}: it must be {_EXPECTED[name]}")
    return LossProperties(**found)


def rows_of(loss: nn.Module) -> Callable[..., Tensor] | None:
    """A loss's ``rows``, None for a loss without it."""
    return getattr(loss, "rows", None)


def stream_rows_of(loss: nn.Module) -> Callable[..., Mapping[str, Tensor]] | None:
    """A loss's ``stream_rows``, None for a loss without it."""
    return getattr(loss, "stream_rows", None)


def needs_of(loss: nn.Module) -> tuple[str, ...]:
    """The names of what a loss's ``forward`` takes, in order.

    In the training loop every floating tensor under these names is float32, whatever the networks compute in.

    Example:
        >>> from stillroom.losses import KD
        >>> needs_of(KD())
        ('student_logits', 'teacher_logits')
    """
    declared = properties_of(loss).needs
    return _parameters(loss.forward) if declared is None else declared


def connect_needs_of(loss: nn.Module) -> tuple[str, ...]:
    """The names of what a loss's ``connect`` takes; none for a loss without one."""
    connect = getattr(loss, "connect", None)
    return () if connect is None else _parameters(connect)


def settings_of(loss: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """The settings that a loss's class takes, by name. A class without an ``__init__`` of its own takes none.

    Example:
        >>> from stillroom.losses import DKD
        >>> list(settings_of(DKD))
        ['alpha', 'beta', 'temperature', 'top_k', 'top_k_epochs', 'coupled']
    """
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(loss).parameters
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in collecting}


def settings_repr(loss: nn.Module) -> str:
    """A loss's settings as ``name=value``, from attributes of the settings' names: for its ``extra_repr``."""
    settings = ((name, getattr(loss, name)) for name in settings_of(type(loss)))
    return ", ".join(f"{name}={value}" for name, value in settings if not isinstance(value, nn.Module))


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
