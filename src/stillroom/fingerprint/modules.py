"""Fingerprints of modules in named parts: code, weights, layers and each attribute."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn
from torch._ops import OpOverload, OpOverloadPacket
from torch.fx import GraphModule

from stillroom.fingerprint.code import CODE_VISITS, PYTHON, is_installed
from stillroom.fingerprint.walk import PLAIN, Visit, Walk

MACHINERY = set(vars(nn.Module())) - {"training"}  # attributes of every module: weights, layers, hooks
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
WITH_ITS_CODE = {"_graph", "_code", "_tracer_cls", "_lineno_map", "_prologue_start", "_replace_hooks"}
ModuleT = TypeVar("ModuleT", bound=nn.Module)
SHOWN = 40  # longest attribute that is recorded as it is


@dataclass(frozen=True)
class Parts:
    """A fingerprint in parts.

    Attributes:
        parts: name of a part -> its digest, or its value if that is short.
        opaque: where each object is that cannot be compared, and its type. In the digests only the type counts.
    """

    parts: dict[str, str] = field(default_factory=dict)
    opaque: tuple[str, ...] = ()


def parts_of(module: nn.Module, path: str, *, values: bool = True, modes: bool = False, trained: bool = True) -> Parts:
    """Take the fingerprint of a module.

    Args:
        module: any.
        path: its name, for listing what cannot be compared.
        values: whether the values of its tensors count, or only their shapes; random initial weights may differ in
            their last bits between processors.
        modes: whether training and evaluation mode count.
        trained: whether it counts which weights get a gradient.

    Returns:
        "class", "code", "weights" (the state dict), "unsaved buffers", "layers" with hooks and everything in them, and
        every attribute of the module under its name.
    """
    module = _as_written(module)
    tensors = list(_tensors(module))
    visits = _Visits(modes, {id(value): name for name, value, _ in tensors if value is not None})
    parts: dict[str, str] = {"class": f"{type(module).__module__}.{type(module).__qualname__}"}
    opaque: list[str] = []

    def take(name: str, visit: Callable[[Walk], None]) -> None:
        walk = Walk(visits.rules, values=values, trained=trained)
        visit(walk)
        parts[name] = walk.digest
        opaque.extend(walk.opaque)

    def visit_all(walk: Walk, saved: bool) -> None:
        for name, value, is_saved in tensors:
            if is_saved is saved:
                walk.put(name)
                walk.visit(value, f"{path}.{name}")

    take("code", lambda walk: walk.visit(type(module), path))
    if is_users_own(module):
        parts["code"] = f"{PYTHON} {parts['code']}"
    take("weights", lambda walk: visit_all(walk, saved=True))
    take("unsaved buffers", lambda walk: visit_all(walk, saved=False))
    take("layers", lambda walk: visits.visit_layers(walk, module, path))
    for name, value in sorted(visits.attributes(module)):
        take(f"attribute {name}", lambda walk, name=name, value=value: walk.visit(value, f"{path}.{name}"))  # type: ignore[misc]
        if type(value) in PLAIN and len(repr(value)) <= SHOWN:
            parts[f"attribute {name}"] = repr(value)
    return Parts(parts, tuple(dict.fromkeys(opaque)))


def deep_copy(module: ModuleT) -> ModuleT:
    """Return a deep copy of a module; objects that cannot be copied, such as open files, are shared.

    Args:
        module: any.
    """
    try:
        return copy.deepcopy(module)
    except Exception:  # noqa: BLE001  a user's object may raise anything when it is copied
        walk = Walk(_Visits(modes=True, known={}).rules, values=False)
        walk.visit(module, "")
        return copy.deepcopy(module, {id(value): value for value in walk.left})


def held_by(module: nn.Module) -> frozenset[int]:
    """Return the ``id`` of every tensor and container in a module, also in closures.

    Args:
        module: any.
    """
    walk = Walk(_Visits(modes=True, known={}).rules, values=False)
    walk.visit(module, "")
    return walk.met


def is_users_own(module: nn.Module) -> bool:
    """Whether a module or one of its layers is of a class that is the user's, not an installed package's."""
    return any(not is_installed(type(layer).__module__) for layer in module.modules())


def tensors_digest(*tensors: Tensor) -> str:
    """Return 16 hexadecimal digits that change with any value, shape, type or order."""
    walk = Walk(trained=False)
    for tensor in tensors:
        walk.visit(tensor, "")
    return walk.digest


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor | None, bool]]:
    """Yield all parameters and buffers by each of their names, and whether a state dict has them."""
    for prefix, layer in module.named_modules(remove_duplicate=False):
        for name, value in {**dict(layer._parameters), **dict(layer._buffers)}.items():
            yield f"{prefix}.{name}", value, name not in layer._non_persistent_buffers_set


def _as_written(module: nn.Module) -> nn.Module:
    """Return the module that was given to ``torch.compile``, or the module itself."""
    while type(module).__module__.startswith("torch._dynamo") and "_orig_mod" in module._modules:
        module = module.get_submodule("_orig_mod")
    return module


class _Visits:
    """Rules for visiting modules.

    Args:
        modes: whether training and evaluation mode count.
        known: ``id`` -> name of tensors whose values are compared elsewhere.
    """

    def __init__(self, modes: bool, known: Mapping[int, str]) -> None:
        self.modes, self.known = modes, known

    @property
    def rules(self) -> tuple[tuple[Any, Visit], ...]:
        """The rules, for :class:`Walk`."""
        operations = (OpOverload, OpOverloadPacket)
        return ((nn.Module, self.visit_module), (operations, _visit_operation), *CODE_VISITS)

    def visit_module(self, walk: Walk, module: nn.Module, path: str) -> None:
        """Add everything about a module."""
        walk.put("module", type(module).__module__, type(module).__qualname__)
        if not isinstance(module, GraphModule):  # torch.fx makes a class for each graph
            walk.visit(type(module), path)
        walk.attributes(self.attributes(module), path)
        self.visit_layers(walk, module, path)

    def attributes(self, module: nn.Module) -> Iterator[tuple[str, Any]]:
        """Yield the attributes of a module other than weights, layers and hooks."""
        unread = MACHINERY | (WITH_ITS_CODE if isinstance(module, GraphModule) else set())
        for name, value in vars(module).items():
            if name not in unread and (self.modes or name != "training"):
                yield name, value

    def visit_layers(self, walk: Walk, module: nn.Module, path: str) -> None:
        """Add hooks, weights and everything about the layers below, but neither class nor attributes."""
        if isinstance(module, GraphModule):
            walk.put("graph", module.code)
        for kind in HOOKS:
            hooks = getattr(module, kind, None) or {}
            walk.put(kind, len(hooks))
            for number, hook in hooks.items():
                walk.put(number in module._forward_hooks_with_kwargs, number in module._forward_pre_hooks_with_kwargs)
                walk.visit(hook, f"{path}: a hook")
        for kind, tensors in (("parameter", module._parameters), ("buffer", module._buffers)):
            for name, value in tensors.items():
                walk.put(kind, name, self.known.get(id(value), ""))
                if value is not None and id(value) in self.known:
                    walk.put(str(value.dtype), tuple(value.shape), walk.trained and value.requires_grad)
                else:
                    walk.visit(value, f"{path}.{name}")
        for name, layer in module._modules.items():
            walk.put("layer", name)
            walk.visit(layer, f"{path}.{name}")


def _visit_operation(walk: Walk, value: Any, path: str) -> None:  # noqa: ARG001
    walk.put("operation", str(value))
