"""The text form of a method: a sum of weighted losses in one line.

::

    ldrld                                   the default weights of one loss
    ldrld(depth=5, temperature=2)           ... with other parameters
    0.1*ce + 0.9*kd(temperature=4)          every weight written out
    kd + dkd(beta=2, warmup=20)             two losses, the second with a 20-epoch linear warm-up
    0.1*ce + 9*standardized(kd(temperature=2))   a wrapper around a loss
    ce + 2*mine.Cosine(margin=0.1)          a user's own loss: class Cosine in the module mine

The text is parsed, never executed. A dotted name imports that module, if the text's origin permits it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from stillroom.errors import InputError, did_you_mean
from stillroom.imports import import_callable
from stillroom.losses.protocol import settings_of
from stillroom.methods.method import Method
from stillroom.methods.method_text import SUPERVISED, call_of, name_of, summands_of, weight_of
from stillroom.methods.presets import PRESETS, WRAPPERS, Preset
from stillroom.methods.term import Term
from stillroom.trust import TYPED, Origin


def parse_method(text: str, origin: Origin = TYPED, supervised: float | None = None) -> Method:
    """Read the text form of a method.

    Args:
        text: a sum of ``ce`` (or ``supervised``, the same) and names from :data:`stillroom.methods.PRESETS`, each with
            an optional number before it and optional keyword arguments (numbers, strings, tuples, true or false)
            behind it. Where ``ce`` is not written, it has the default weight of the first loss.
        origin: where the text comes from; by default the user typed it. A module that only a file names is not imported
            unless the file is trusted.
        supervised: weight of the loss on labels where the text does not give one; None for that of the first loss.

    Raises:
        UntrustedError: ``origin`` does not permit an import that the text needs.
        InputError: the text is no such sum, a name or a parameter is unknown, or a value is impossible.
    """
    ce: float | None = None
    terms: list[Term] = []
    first: Preset | None = None
    for node in summands_of(text):
        factor, node = weight_of(node, text)
        if name_of(node) in SUPERVISED:
            if not isinstance(node, ast.Name) or ce is not None:
                raise InputError(f"method={text!r}: write ce once and without parameters")
            ce = 1.0 if factor is None else factor
            continue
        term, preset = _term(node, factor, text, origin)
        first = first or preset
        terms.append(term)
    if ce is None:
        ce = supervised or (first.ce if first else 1.0)
    return Method(terms, ce, text.strip())


def _term(node: ast.expr, factor: float | None, text: str, origin: Origin) -> tuple[Term, Preset]:
    """Read ``name(parameter=value, ...)`` or ``wrapper(LOSS, parameter=value, ...)``."""
    name, inner, arguments = call_of(node, text)
    if name in WRAPPERS:
        if len(inner) != 1:
            raise InputError(f"method={text!r}: {name} goes around one loss; write {name}(kd) for example")
        term, preset = _term(inner[0], factor, text, origin)
        loss = _make(WRAPPERS[name].loss, name, arguments, text, term.loss)
        return Term(loss, term.weight, term.warmup, f"{name}_{term.name}"), preset
    if inner:
        raise InputError(
            f"method={text!r}: {ast.unparse(node)!r} is not understood; write parameters as name=value, and losses "
            f"only inside {' or '.join(WRAPPERS)}"
        )
    preset = _preset(name, text, origin)
    warmup = arguments.pop("warmup", preset.warmup)
    if not isinstance(warmup, int) or isinstance(warmup, bool):
        raise InputError(f"method={text!r}: warmup={warmup!r} of {name} must be a whole number of epochs")
    loss = _make(preset.loss, name, arguments, text)
    weight = preset.weight if factor is None else factor
    return Term(loss, weight, warmup, name.rpartition(".")[2].lower()), preset


def _preset(name: str, text: str, origin: Origin) -> Preset:
    if "." in name:
        module, _, path = name.rpartition(".")
        return Preset(_own(module, path, origin), 1.0, 1.0, 0, name, "own")
    preset = PRESETS.get(name)
    if preset is None:
        known = ", ".join([*PRESETS, *(f"{wrapper}(LOSS)" for wrapper in WRAPPERS)])
        close = difflib.get_close_matches(name, [*PRESETS, *WRAPPERS], n=1)
        raise InputError(
            f"method={text!r}: no loss is called {name!r}{did_you_mean(close, f'; known are ce, {known}')}"
        )
    return preset


def _own(module: str, path: str, origin: Origin) -> type[nn.Module]:
    found = import_callable(module, path, origin)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"{module}.{path} is no loss; give a subclass of torch.nn.Module")
    return found


def _make(build: type[nn.Module], name: str, arguments: dict[str, Any], text: str, *inner: nn.Module) -> nn.Module:
    """Call a loss's class with arguments of the types its signature shows."""
    known = dict(list(settings_of(build).items())[len(inner) :])
    for argument, value in arguments.items():
        if argument not in known:
            listed = [*known, *([] if inner else ["warmup"])]
            raise InputError(f"method={text!r}: {name} has no parameter {argument!r}; it has {', '.join(listed)}")
        _check_type(name, argument, value, known, text)
    try:
        return build(*inner, **arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"method={text!r}: {error}") from error


def _check_type(name: str, argument: str, value: object, known: Mapping[str, inspect.Parameter], text: str) -> None:
    default = known[argument].default
    if default is None or default is inspect.Parameter.empty:
        return  # it shows no type; the loss itself may refuse the value
    wanted = type(default)
    if not isinstance(value, wanted) and not (wanted is float and type(value) is int):
        raise InputError(f"method={text!r}: {argument}={value!r} of {name} must be of type {wanted.__name__}")
    if wanted in (int, float) and isinstance(value, bool):
        raise InputError(f"method={text!r}: {argument}={value!r} of {name} must be a number")
