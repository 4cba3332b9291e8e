"""The text of a method taken apart into summands, losses and their arguments, and written again."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from stillroom.errors import InputError

SUPERVISED = ("ce", "supervised")  # the loss on labels, whatever it is in a task


@dataclass
class Call:
    """A loss, or a wrapper around one, as it is written.

    Attributes:
        name: of the loss or wrapper.
        arguments: those that are written.
        inner: the loss inside a wrapper.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    inner: Call | None = None

    @property
    def chain(self) -> list[Call]:
        """The call itself, then those inside it; the innermost is last."""
        return [self] if self.inner is None else [self, *self.inner.chain]

    @property
    def text(self) -> str:
        """As in "standardized(kd(temperature=2))"."""
        inside = [] if self.inner is None else [self.inner.text]
        inside += [f"{name}={_written(value)}" for name, value in self.arguments.items()]
        return f"{self.name}({', '.join(inside)})" if inside else self.name


@dataclass
class Summand:
    """A weighted loss as it is written.

    Attributes:
        weight: the number before the loss; None where there is none.
        call: the loss.
    """

    weight: float | None
    call: Call

    @property
    def text(self) -> str:
        """As in "0.9*kd(temperature=4)"."""
        return self.call.text if self.weight is None else f"{_written(self.weight)}*{self.call.text}"


def read_summands(text: str) -> list[Summand]:
    """Take the text of a method apart, the loss on labels included; names and values are not checked.

    Raises:
        InputError: it is no sum of losses.
    """
    found = []
    for summand in summands_of(text):
        weight, node = weight_of(summand, text)
        found.append(Summand(weight, _read_call(node, text)))
    return found


def write_summands(summands: Iterable[Summand]) -> str:
    """The text of a method, which :func:`stillroom.methods.parse_method` reads."""
    return " + ".join(summand.text for summand in summands)


def _read_call(node: ast.expr, text: str) -> Call:
    name, inner, arguments = call_of(node, text)
    if len(inner) > 1:
        raise InputError(f"method={text!r}: {name} goes around one loss; write {name}(kd) for example")
    return Call(name, arguments, _read_call(inner[0], text) if inner else None)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value == int(value) and abs(value) < 1e15 else repr(value)


def summands_of(text: str) -> list[ast.expr]:
    """The summands in the text of a method.

    Raises:
        InputError: it is no expression.
    """
    try:
        return _summands(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise InputError(f"method={text!r} cannot be read: write for example 0.1*ce + 0.9*kd(temperature=4)") from error


def _summands(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_summands(node.left), *_summands(node.right)]
    return [node]


def weight_of(node: ast.expr, text: str) -> tuple[float | None, ast.expr]:
    """Split the number off ``number * loss``."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) and isinstance(node.left, ast.Constant)):
        return None, node
    if not isinstance(node.left.value, int | float) or isinstance(node.left.value, bool):
        raise InputError(f"method={text!r}: {node.left.value!r} is no weight; write a number before the *")
    return float(node.left.value), node.right


def name_of(node: ast.expr) -> str:
    """The name called, dotted for a class in the user's own module; empty for anything else."""
    called = node.func if isinstance(node, ast.Call) else node
    parts = []
    while isinstance(called, ast.Attribute):
        parts.append(called.attr)
        called = called.value
    return ".".join([called.id, *reversed(parts)]) if isinstance(called, ast.Name) else ""


def call_of(node: ast.expr, text: str) -> tuple[str, list[ast.expr], dict[str, Any]]:
    """Split ``name``, ``name(parameter=value, ...)`` or ``name(LOSS, parameter=value, ...)``."""
    name = name_of(node)
    if not name:
        raise InputError(
            f"method={text!r}: {ast.unparse(node)!r} is not understood; "
            "write weight*name(parameter=value), summands joined by +"
        )
    arguments: dict[str, Any] = {}
    for keyword in node.keywords if isinstance(node, ast.Call) else []:
        if keyword.arg is None:
            raise InputError(f"method={text!r}: ** is not understood; write name=value")
        arguments[keyword.arg] = _value(keyword.value, text)
    return name, list(node.args) if isinstance(node, ast.Call) else [], arguments


def _value(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Name) and node.id in ("true", "false"):  # as YAML and shells write them
        return node.id == "true"
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise InputError(
            f"method={text!r}: {ast.unparse(node)!r} is no plain value; write a number, true, false or a text in quotes"
        ) from error
