"""What the loop runs: a weighted sum of named losses, written in one line.

A method is a cross-entropy weight plus any number of weighted losses. The text form is a sum::

    ldrld                                   the default weights of one loss
    ldrld(depth=5, temperature=2)           ... with other parameters
    0.1*ce + 0.9*kd(temperature=4)          every weight written out
    kd + dkd(beta=2, warmup=20)             two losses, the second with a 20-epoch linear warm-up
    0.1*ce + 9*standardized(kd(temperature=2))   a wrapper around a loss

The text is parsed, never executed. A loss says what it needs by the parameter names of its ``forward``:
``student_logits``, ``teacher_logits``, ``target``.
"""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom import losses
from stillroom.errors import InputError
from stillroom.records import Output


@dataclass(frozen=True, slots=True)
class Preset:
    """A loss by its name, with the weights it has when none are written.

    They are the paper's for one of its pairs where it gives them (KD, DKD, LDRLD, TTM, WSLD's alpha, RLD's warm-up),
    and a plain start elsewhere: weights are worth tuning for a pair of one's own.

    Attributes:
        loss: the module class; its signature is the list of parameters a recipe may set.
        weight: of the loss.
        ce: of the cross-entropy on the labels.
        warmup: epochs over which the weight rises linearly to its full value.
        title: the method's name in words.
        source: paper and year.
    """

    loss: type[nn.Module]
    weight: float
    ce: float
    warmup: int
    title: str
    source: str


PRESETS: Mapping[str, Preset] = {
    "kd": Preset(losses.KD, 0.9, 0.1, 0, "Knowledge distillation", "Hinton et al., 2015"),
    "dkd": Preset(losses.DKD, 1.0, 1.0, 20, "Decoupled knowledge distillation", "Zhao et al., CVPR 2022"),
    "ldrld": Preset(
        losses.LDRLD, 1.0, 1.0, 0, "Local dense relational logit distillation", "arXiv 2507.15911, ICCV 2025"
    ),
    "nkd": Preset(losses.NKD, 1.0, 1.0, 0, "Normalised knowledge distillation", "Yang et al., ICCV 2023"),
    "dist": Preset(losses.DIST, 1.0, 1.0, 0, "Distillation from a stronger teacher", "Huang et al., NeurIPS 2022"),
    "ttm": Preset(losses.TTM, 45.0, 1.0, 0, "Transformed teacher matching", "Zheng and Yang, ICLR 2024"),
    "wttm": Preset(losses.WTTM, 4.0, 1.0, 0, "Weighted transformed teacher matching", "Zheng and Yang, ICLR 2024"),
    "wsld": Preset(losses.WSLD, 2.5, 1.0, 0, "Weighted soft label distillation", "Zhou et al., ICLR 2021"),
    "rld": Preset(losses.RLD, 1.0, 1.0, 20, "Refined logit distillation", "ICCV 2025"),
}


WRAPPERS: Mapping[str, Callable[[nn.Module], nn.Module]] = {"standardized": losses.Standardized}


@dataclass(frozen=True, slots=True)
class Term:
    """One loss inside a method.

    Attributes:
        loss: the module that computes it.
        weight: its factor in the sum, finite and not negative.
        warmup: epochs of linear warm-up; in epoch ``e`` (from 1) the weight is ``weight * min(e / warmup, 1)``.
        name: how the term is called in progress bars and records; the class name in lower case when empty.
    """

    loss: nn.Module
    weight: float = 1.0
    warmup: int = 0
    name: str = ""
    inputs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        known = {"student_logits", "teacher_logits", "target"}
        asked = tuple(inspect.signature(self.loss.forward).parameters)
        strange = [name for name in asked if name not in known]
        if strange:
            raise InputError(
                f"loss {type(self.loss).__name__}: forward asks for {strange[0]!r}, which no method provides; "
                f"use parameters named {', '.join(sorted(known))}"
            )
        if not (0 <= self.weight < float("inf")):
            raise InputError(f"weight={self.weight} of {type(self.loss).__name__}: give a finite number >= 0")
        if self.warmup < 0:
            raise InputError(f"warmup={self.warmup} of {type(self.loss).__name__}: give epochs >= 0")
        object.__setattr__(self, "inputs", asked)
        object.__setattr__(self, "name", self.name or type(self.loss).__name__.lower())

    def weight_at(self, epoch: int) -> float:
        """The weight in an epoch counted from 1."""
        return self.weight * min(epoch / self.warmup, 1.0) if self.warmup else self.weight


class Method(nn.Module):
    """Cross-entropy on the labels plus weighted losses against the teacher.

    Args:
        terms: the losses. Empty means training on labels only.
        ce: weight of the cross-entropy, finite and not negative.
        text: how to write this method down; made from the terms when empty.

    Raises:
        InputError: if nothing is left to minimise.
    """

    def __init__(self, terms: Iterable[Term] = (), ce: float = 1.0, text: str = "") -> None:
        super().__init__()
        self.terms = tuple(_with_distinct_names(terms))
        self.ce = float(ce)
        if not (0 <= self.ce < float("inf")):
            raise InputError(f"ce={ce}: give a finite number >= 0")
        if self.ce == 0 and not any(term.weight for term in self.terms):
            raise InputError(f"method {text or 'without terms'}: every weight is zero, nothing would be learned")
        self.losses = nn.ModuleList(term.loss for term in self.terms)
        self.text = text or " + ".join([f"{self.ce:g}*ce", *(f"{term.weight:g}*{term.loss!r}" for term in self.terms)])

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names of all terms in the order :meth:`forward` returns them."""
        return (("ce",) if self.ce else ()) + tuple(term.name for term in self.terms)

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss reads the teacher."""
        return any(name.startswith("teacher") for term in self.terms for name in term.inputs)

    def forward(self, student: Output, teacher: Output | None, target: Tensor, epoch: int = 1) -> dict[str, Tensor]:
        """Compute every weighted term; their sum is the loss.

        Args:
            student: logits (B, C) with gradient.
            teacher: logits (B, C); None only for methods that need no teacher.
            target: labels (B,), int64.
            epoch: counted from 1, for warm-ups.

        Returns:
            One scalar a term, weights applied, in the order of :attr:`term_names`.
        """
        at_hand = {
            "student_logits": student.logits,
            "teacher_logits": None if teacher is None else teacher.logits,
            "target": target,
        }
        terms: dict[str, Tensor] = {}
        if self.ce:
            terms["ce"] = self.ce * F.cross_entropy(student.logits.float(), target)
        for term in self.terms:
            terms[term.name] = term.weight_at(epoch) * term.loss(**{key: at_hand[key] for key in term.inputs})
        return terms

    def check(self, num_classes: int) -> None:
        """Run every loss once on made-up logits, so that an impossible value shows before training.

        Raises:
            InputError: with the loss's own message, for example a depth above the class count.
        """
        logits = Output(torch.linspace(-1, 1, 2 * num_classes).reshape(2, num_classes))
        try:
            self.forward(logits, logits, torch.zeros(2, dtype=torch.long))
        except ValueError as error:
            raise InputError(f"method={self.text!r}: {error}") from error

    def extra_repr(self) -> str:
        """The text form."""
        return self.text


def _with_distinct_names(terms: Iterable[Term]) -> list[Term]:
    named: dict[str, Term] = {}
    for term in terms:
        name, copy = term.name, 2
        while name in named or name == "ce":
            name, copy = f"{term.name}_{copy}", copy + 1
        named[name] = Term(term.loss, term.weight, term.warmup, name)
    return list(named.values())


def parse_method(text: str) -> Method:
    """Read the text form of a method.

    Args:
        text: a sum of ``ce`` and names from :data:`PRESETS`, each with an optional number before it and optional
            keyword arguments (numbers, strings, true or false) behind it. Where ``ce`` is not written, the default
            cross-entropy weight of the first loss holds.

    Raises:
        InputError: if the text is no such sum, a name or a parameter is unknown, or a value is impossible.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise InputError(f"method={text!r} cannot be read: write for example 0.1*ce + 0.9*kd(temperature=4)") from error
    ce: float | None = None
    terms: list[Term] = []
    first: Preset | None = None
    for node in _summands(tree):
        factor, node = _weight(node, text)
        node, wrappers = _unwrap(node)
        name, arguments = _call(node, text)
        if name == "ce":
            if arguments or wrappers or ce is not None:
                raise InputError(f"method={text!r}: write ce once and without parameters")
            ce = 1.0 if factor is None else factor
            continue
        preset = PRESETS.get(name)
        if preset is None:
            close = difflib.get_close_matches(name, PRESETS)
            known = ", ".join([*PRESETS, *(f"{wrapper}(LOSS)" for wrapper in WRAPPERS)])
            hint = f"did you mean {close[0]!r}" if close else f"known are ce, {known}"
            raise InputError(f"method={text!r}: no loss is called {name!r}; {hint}")
        first = first or preset
        term = _term(name, preset, factor, arguments, text)
        for wrapper in reversed(wrappers):
            term = Term(WRAPPERS[wrapper](term.loss), term.weight, term.warmup, f"{wrapper}_{term.name}")
        terms.append(term)
    if ce is None:
        ce = first.ce if first else 1.0
    return Method(terms, ce, text.strip())


def _term(name: str, preset: Preset, factor: float | None, arguments: dict[str, Any], text: str) -> Term:
    warmup = arguments.pop("warmup", preset.warmup)
    if not isinstance(warmup, int):
        raise InputError(f"method={text!r}: warmup={warmup!r} of {name} must be a whole number of epochs")
    known = inspect.signature(preset.loss).parameters
    for argument, value in arguments.items():
        if argument not in known:
            raise InputError(
                f"method={text!r}: {name} has no parameter {argument!r}; it has {', '.join([*known, 'warmup'])}"
            )
        wanted = type(known[argument].default)
        if not isinstance(value, wanted) and not (wanted is float and type(value) is int):
            raise InputError(f"method={text!r}: {argument}={value!r} of {name} must be of type {wanted.__name__}")
        if wanted in (int, float) and isinstance(value, bool):
            raise InputError(f"method={text!r}: {argument}={value!r} of {name} must be a number")
    try:
        loss = preset.loss(**arguments)
    except ValueError as error:
        raise InputError(f"method={text!r}: {error}") from error
    return Term(loss, preset.weight if factor is None else factor, warmup, name)


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def _weight(node: ast.expr, text: str) -> tuple[float | None, ast.expr]:
    """Split the number off ``number * loss``."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant)):
        return None, node
    if not isinstance(node.left.value, int | float) or isinstance(node.left.value, bool):
        raise InputError(f"method={text!r}: {node.left.value!r} is no weight; write a number before the *")
    return float(node.left.value), node.right


def _unwrap(node: ast.expr) -> tuple[ast.expr, list[str]]:
    """Split ``wrapper(wrapper(loss))`` into the loss and the wrappers, the outermost first."""
    wrappers = []
    while (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in WRAPPERS
        and len(node.args) == 1
        and not node.keywords
    ):
        wrappers.append(node.func.id)
        node = node.args[0]
    return node, wrappers


def _call(node: ast.expr, text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name`` or ``name(parameter=value, ...)``."""
    arguments: dict[str, Any] = {}
    if isinstance(node, ast.Call) and not node.args:
        for keyword in node.keywords:
            if keyword.arg is None:
                raise InputError(f"method={text!r}: ** is not understood; write name=value")
            arguments[keyword.arg] = _value(keyword.value, text)
        node = node.func
    if not isinstance(node, ast.Name):
        raise InputError(
            f"method={text!r}: {ast.unparse(node)!r} is not understood; "
            "write weight*name(parameter=value), summands joined by +"
        )
    return node.id, arguments


def _value(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Name) and node.id in ("true", "false"):  # as YAML and shells write them
        return node.id == "true"
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise InputError(
            f"method={text!r}: {ast.unparse(node)!r} is no plain value; write a number, true or false"
        ) from error
