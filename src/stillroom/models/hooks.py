"""Forward hooks: record inputs and outputs of submodules in a model's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Literal, Self

from torch import Tensor, nn

from stillroom.batch import Output
from stillroom.errors import InputError, did_you_mean
from stillroom.models.output import logits_of

# Attribute names of the wrapped model in DistributedDataParallel, torch.compile and Lightning Fabric.
_WRAPPERS = ("module", "_orig_mod", "_forward_module")
SIDES: tuple[Literal["input"], Literal["output"]] = ("input", "output")
_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)


WHOLE = "(model)"  # the model itself, in place of the name of a submodule


@dataclass(frozen=True, slots=True)
class Point:
    """The input or the output of a submodule.

    Attributes:
        module: dotted name of a submodule, or :data:`WHOLE`.
        side: its output, or its input (the first argument).
    """

    module: str
    side: Literal["output", "input"] = "output"

    def __str__(self) -> str:
        return self.module if self.side == "output" else f"the input of {self.module}"


class FeatureTap:
    """Records the outputs (or inputs) of named submodules in each forward pass.

    It changes no module, and ``close`` (or leaving the ``with``) removes every hook. A deep copy of the model, such as
    a moving average, copies the hooks too; they ignore passes of the copy. Tensors are cloned, because a later layer
    could overwrite them in place, except the outputs named in the model's own ``stages``. The (B, C, 1, 1) output of a
    pooling layer is flattened to (B, C).

    Args:
        model: any module. Names may leave out the prefix that DistributedDataParallel, torch.compile or
            Lightning Fabric add.
        names: dotted names of submodules as ``model.named_modules()`` lists them, or a :class:`Point` each.
            Duplicates are allowed.
        read: called with each tensor during the pass, without a copy. Nothing is recorded then, and values that are
            not tensors are skipped.

    Raises:
        InputError: the model has no submodule of this name; the message lists the closest names.

    Example:
        >>> import torch
        >>> from stillroom.models import ZOO, FeatureTap
        >>> model = ZOO["resnet8"](10)
        >>> with FeatureTap(model, ["layer1", "flatten"]) as tap:
        ...     logits = model(torch.zeros(2, 3, 32, 32))
        ...     [tuple(feature.shape) for feature in tap.features()]
        [(2, 16, 32, 32), (2, 64)]
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str | Point],
        *,
        read: Callable[[Point, Tensor], None] | None = None,
    ) -> None:
        self.names = tuple(names)
        self._points = tuple(Point(name) if isinstance(name, str) else name for name in self.names)
        self._latest: dict[Point, Tensor] = {}
        self._handles: list[Any] = []
        found = _find(model, dict.fromkeys(point.module for point in self._points))
        if found:
            # A pass that skips a module must not return the previous pass's output.
            self._handles.append(model.register_forward_pre_hook(self._clearing(model)))
        inner = inside(model)
        uncopied = {*_names_in(inner, "stages"), *_names_in(inner, "preact_stages")}
        for point in dict.fromkeys(self._points):
            module = found[point.module]
            copies = point.side == "input" or point.module not in uncopied
            hook = self._keeping(point, module, copies=copies) if read is None else _reading(point, module, read)
            add = module.register_forward_pre_hook if point.side == "input" else module.register_forward_hook
            self._handles.append(add(hook))

    def features(self) -> tuple[Tensor, ...]:
        """The tensors of the latest forward pass, in the order of ``names``, attached to its graph.

        Raises:
            InputError: the model has not run since the tap was opened, or its latest pass skipped a named module.
        """
        missing = [str(point) for point in self._points if point not in self._latest]
        if missing:
            raise InputError(f"the latest forward pass recorded no output of {', '.join(missing)}; run the model first")
        return tuple(self._latest[point] for point in self._points)

    def release(self) -> None:
        """Drop the tensors and their graph without waiting for the next pass."""
        self._latest.clear()

    def close(self) -> None:
        """Remove the hooks and drop the tensors. Closing twice is harmless."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._latest.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _clearing(self, tapped: nn.Module) -> Callable[..., None]:
        latest = self._latest

        def clear(module: nn.Module, _inputs: Any) -> None:
            if module is tapped:
                latest.clear()

        return clear

    def _keeping(self, point: Point, tapped: nn.Module, *, copies: bool) -> Callable[..., None]:
        latest = self._latest

        def keep(module: nn.Module, *values: Any) -> None:
            if module is not tapped:
                return
            tensor = first_tensor(values[-1])
            if tensor is None:
                kind = type(values[-1]).__name__
                raise InputError(f"the submodule {point} returned a {kind}, not a tensor; name another submodule")
            tensor = tensor.clone() if copies else tensor
            pooled = point.side == "output" and isinstance(module, _POOLS)
            pooled = pooled and tensor.dim() == 4 and tensor.shape[2:] == (1, 1)
            latest[point] = tensor.flatten(1) if pooled else tensor

        return keep


def _reading(point: Point, tapped: nn.Module, read: Callable[[Point, Tensor], None]) -> Callable[..., None]:
    def hook(module: nn.Module, *values: Any) -> None:
        tensor = first_tensor(values[-1])
        if module is tapped and tensor is not None:
            read(point, tensor)

    return hook


class Capture:
    """A hook that clones a submodule's first input or output; a deep copy of the model gets its own hook."""

    def __init__(self) -> None:
        self.tensor: Tensor | None = None

    def __call__(self, _module: nn.Module, *values: Any) -> None:
        """Clone the first input (as a pre-hook) or the first output."""
        tensor = first_tensor(values[-1])
        self.tensor = None if tensor is None else tensor.clone()  # a later layer may overwrite it in place

    def take(self) -> Tensor | None:
        """Return the captured tensor and drop it."""
        tensor, self.tensor = self.tensor, None
        return tensor

    def __reduce__(self) -> tuple[type[Capture], tuple[()]]:
        return Capture, ()  # drop the captured tensor, and its graph, when copying


class Tapped:
    """A model that returns an ``Output``: logits, and the features of the named submodules.

    Args:
        model: any classifier whose output ``logits_of`` understands.
        names: submodules to record, as in ``FeatureTap``; none by default.

    Raises:
        InputError: the model has no submodule of this name.
    """

    def __init__(self, model: nn.Module, names: Sequence[str | Point] = ()) -> None:
        self.model = model
        self._tap = FeatureTap(model, names)

    @property
    def names(self) -> tuple[str | Point, ...]:
        """The recorded submodules, in the order of ``Output.features``."""
        return self._tap.names

    def __call__(self, images: Tensor) -> Output:
        """Images (B, C, H, W) -> logits (B, classes) and one feature per name."""
        logits = logits_of(self.model(images))
        features = self._tap.features()
        self._tap.release()
        return Output(logits=logits, parts={"features": features})

    def close(self) -> None:
        """Remove the hooks; the model stays usable."""
        self._tap.close()


def stages_of(model: nn.Module, *, preact: bool = False) -> tuple[str, ...]:
    """Names of a model's stages: the submodules whose outputs are its features.

    Args:
        model: any module, wrapped or not.
        preact: the features before their last activation; the zoo's models list them.

    Returns:
        The model's own ``stages`` (or ``preact_stages``); for a timm model, the modules in its ``feature_info``;
        else an empty tuple. The last stage of a zoo model is the pooled vector; timm lists only maps or token
        sequences.

    Raises:
        InputError: the model's own list has a name that is no submodule of it.
    """
    own = own_stages(model, "preact_stages" if preact else "stages")
    if own or preact:
        return own
    inner = inside(model)
    known = {name for name, _ in inner.named_modules()}
    listed = getattr(inner, "feature_info", None) or ()
    names = [entry.get("module", "") for entry in listed if isinstance(entry, dict)]
    return tuple(name for name in names if name in known)


def own_stages(model: nn.Module, attribute: str) -> tuple[str, ...]:
    """The names in a model's own ``stages`` or ``preact_stages``; empty without such a list.

    Raises:
        InputError: one of them is no submodule.
    """
    inner = inside(model)
    names = _names_in(inner, attribute)
    known = [name for name, _ in inner.named_modules() if name]
    for name in names:
        if name not in known:
            hint = did_you_mean(get_close_matches(name, known) or known[:3])
            raise InputError(f"{type(inner).__name__}.{attribute} names {name!r}, which is no submodule of it{hint}")
    return names


def _names_in(model: nn.Module, attribute: str) -> tuple[str, ...]:
    """A model's own list of names; empty if the attribute holds something else, such as layers."""
    value = getattr(model, attribute, None)
    return tuple(value) if isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value) else ()


def first_tensor(value: Any) -> Tensor | None:
    """The first of a submodule's outputs or inputs; None if it is not a tensor."""
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    return first if isinstance(first, Tensor) else None


def inside(model: nn.Module) -> nn.Module:
    """The model inside wrappers such as DistributedDataParallel, which hold nothing else."""
    children = dict(model.named_children())
    while len(children) == 1 and next(iter(children)) in _WRAPPERS:
        model = next(iter(children.values()))
        children = dict(model.named_children())
    return model


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The submodule of a name, searched in the model and then inside its wrappers.

    Raises:
        InputError: there is none; the message lists the closest names.
    """
    return _find(model, [name])[name]


def _find(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """The submodules of some names, searched in the model and then inside its wrappers."""
    modules = {WHOLE: model, **dict(inside(model).named_modules()), **dict(model.named_modules())}
    for name in names:
        if not name or name not in modules:
            known = [each for each, _ in inside(model).named_modules() if each]
            hint = did_you_mean(get_close_matches(name, known) or known[:3], "; did you mean another model?")
            raise InputError(f"the model {type(inside(model)).__name__} has no submodule {name!r}{hint}")
    return {name: modules[name] for name in names}
