"""Where a classifier keeps what losses compare: its stages, its final map, its embedding and its head.

Nothing is assumed about a model. Two passes over a few images show which linear layer makes the logits and which map
has the embedding as its global average; the stages are the model's own list, timm's, or the last map of each size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stillroom.errors import InputError
from stillroom.models.hooks import Point, inside, own_stages, stages_of
from stillroom.models.output import evaluating, logits_of

_Shapes = dict[Point, tuple[int, ...]]
_Inputs = dict[str, tuple[int, ...]]

PARTS = ("features", "maps", "preact_maps", "embedding", "final_map", "head")


@dataclass(frozen=True, slots=True)
class Place:
    """A tapped tensor and how to see it as a map.

    Attributes:
        point: where it is read.
        shape: of one sample, as the model makes it.
        layout: channels first, channels last, tokens on a known grid, or anything else.
        grid: height and width of the tokens.
        prefix: tokens before those of the grid, such as the class token.
    """

    point: Point
    shape: tuple[int, ...]
    layout: Literal["map", "channels_last", "tokens", "other"]
    grid: tuple[int, int] = (0, 0)
    prefix: int = 0

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, if there are any."""
        if self.layout == "tokens":
            return self.grid
        if self.layout == "other":
            return None
        height, width = self.shape[1:] if self.layout == "map" else self.shape[:2]
        return height, width

    def as_map(self, tensor: Tensor) -> Tensor:
        """The tensor as (B, C, H, W)."""
        if self.layout == "tokens":
            batch, _, channels = tensor.shape
            return tensor[:, self.prefix :].transpose(1, 2).reshape(batch, channels, *self.grid)
        return tensor.permute(0, 3, 1, 2) if self.layout == "channels_last" else tensor


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a model offers to losses.

    Attributes:
        model: its class name, for messages.
        stages: the outputs of its stages, shallow to deep, without stem and pooled vector.
        preact: the same before their last activation; the stages themselves where the model does not name these.
        head: name of the linear layer that makes the logits; empty if there is none.
        final_map: where to read the map whose global average goes into the head; None if there is none.
    """

    model: str
    stages: tuple[Place, ...]
    preact: tuple[Place, ...]
    head: str
    final_map: Point | None

    def lacks(self, part: str) -> str:
        """Why a part of :data:`PARTS` cannot be read, in words; empty if it can."""
        if part == "features" and not self.stages:
            return f"{self.model} names no stages: give it an attribute stages, a tuple of submodule names"
        if part in ("maps", "preact_maps"):
            places = self.stages if part == "maps" else self.preact
            odd = next((place for place in places if place.size is None), None)
            if odd is not None:
                return f"{self.model} gives {list(odd.shape)} a sample at {odd.point}, which is no map (C, H, W)"
            if not places:
                return f"{self.model} has no spatial maps that can be found: give it an attribute stages"
        if part in ("embedding", "head") and not self.head:
            return f"{self.model} does not end in one linear layer"
        if part == "final_map" and self.final_map is None:
            return f"{self.model} does not end in the global average of a map (more than 1 x 1) and one linear layer"
        return ""


def examine(model: nn.Module, images: Tensor) -> Anatomy:
    """Find a model's stages, head and final map by running it twice.

    In evaluation mode without gradients; the model stays as it was.

    Args:
        model: any classifier whose output ``logits_of`` understands.
        images: two or more different images (B, C, H, W) that it accepts.

    Raises:
        InputError: the model's own ``stages`` or ``preact_stages`` name what is no submodule or gives no tensor, or
            are not equally many.
    """
    inner = inside(model)
    with evaluating(model), torch.no_grad():
        head, embedding = _find_head(model, images)
        trace = _trace(model, images, embedding)
    shapes = {point: shape for point, shape in trace.shapes.items() if point.side == "output"}
    inputs = {point.module: shape for point, shape in trace.shapes.items() if point.side == "input"}
    grid, prefix = _grid_of(inner)
    last = getattr(inner, "output_fmt", "") == "NHWC"  # timm's word for it

    def place(name: str) -> Place:
        shape = shapes[Point(name)][1:]
        if len(shape) == 3:
            return Place(Point(name), shape, "channels_last" if last else "map")
        if grid and len(shape) == 2 and shape[0] == prefix + grid[0] * grid[1]:
            return Place(Point(name), shape, "tokens", grid, prefix)
        return Place(Point(name), shape, "other")

    stages = tuple(place(name) for name in _stages(inner, shapes, inputs))
    preact = tuple(place(name) for name in _without_ends(_own(inner, "preact_stages", shapes), shapes)) or stages
    if len(preact) != len(stages):
        raise InputError(
            f"{type(inner).__name__}.preact_stages names {len(preact)} levels and there are {len(stages)} stages; "
            "name the same levels in stages and preact_stages"
        )
    return Anatomy(type(inner).__name__, stages, preact, head, trace.final_map)


def pair_levels(first: Anatomy, second: Anatomy) -> tuple[Anatomy, Anatomy]:
    """Bring two models to the same number of levels, level i of one facing level i of the other.

    The deepest ones are kept. A model whose maps all have one size, such as a plain vision transformer, gives evenly
    spaced ones instead, the last included.
    """
    count = min(len(first.stages), len(second.stages))
    return _keep_levels(first, count), _keep_levels(second, count)


def _keep_levels(anatomy: Anatomy, count: int) -> Anatomy:
    total = len(anatomy.stages)
    isotropic = len({place.size for place in anatomy.stages}) == 1
    chosen = [(i + 1) * total // count - 1 for i in range(count)] if isotropic else list(range(total - count, total))
    return dataclasses.replace(
        anatomy,
        stages=tuple(anatomy.stages[i] for i in chosen),
        preact=tuple(anatomy.preact[i] for i in chosen),
    )


def _find_head(model: nn.Module, images: Tensor) -> tuple[str, Tensor | None]:
    """The linear layer whose output is the logits, and what it is given."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any, output: Any) -> None:
            seen[name] = (inputs[0].clone(), output.clone())

        return hook

    linear = {name: module for name, module in inside(model).named_modules() if isinstance(module, nn.Linear)}
    with _hooks(module.register_forward_hook(remember(name)) for name, module in linear.items()):
        logits = logits_of(model(images))
    for name, (given, made) in reversed(seen.items()):
        if made.shape == logits.shape and torch.equal(made, logits):
            return name, given
    return "", None


@dataclass
class _Trace:
    """What every submodule took and gave, in the order of the pass, and the last map that averages to the embedding."""

    shapes: _Shapes
    final_map: Point | None = None


def _trace(model: nn.Module, images: Tensor, embedding: Tensor | None) -> _Trace:
    trace = _Trace({})

    def look(point: Point, value: Any) -> None:
        first = value[0] if isinstance(value, (tuple, list)) and value else value
        if not isinstance(first, Tensor) or first.dim() < 2:
            return
        trace.shapes.pop(point, None)  # a module that runs twice counts at its last place
        trace.shapes[point] = tuple(first.shape)
        if embedding is not None and _averages_to(first, embedding):
            trace.final_map = point

    def before(name: str) -> Callable[..., None]:
        return lambda _module, inputs: look(Point(name, "input"), inputs)

    def after(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: look(Point(name), output)

    handles = []
    for name, module in inside(model).named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(before(name)))
            handles.append(module.register_forward_hook(after(name)))
    with _hooks(handles):
        model(images)
    return trace


def _averages_to(feature: Tensor, embedding: Tensor) -> bool:
    """Whether an embedding is the global average of a map, which has to be more than one pixel."""
    if feature.dim() != 4 or feature.shape[:2] != embedding.shape or feature.shape[2] * feature.shape[3] == 1:
        return False
    scale = float(embedding.abs().max())
    return scale > 0 and torch.allclose(feature.mean((2, 3)), embedding, rtol=1e-3, atol=1e-4 * scale)


def _stages(model: nn.Module, shapes: _Shapes, inputs: _Inputs) -> list[str]:
    """Names of the stages: the model's own or timm's, else the last map of each size."""
    named = _own(model, "stages", shapes) or tuple(name for name in stages_of(model) if Point(name) in shapes)
    if named:
        return _without_ends(named, shapes)
    outputs = list(shapes.items())
    flat = [i for i, (_, shape) in enumerate(outputs) if len(shape) == 3]
    maps = [i for i, (_, shape) in enumerate(outputs) if len(shape) == 4 and shape[2] * shape[3] > 1]
    if not maps or (flat and flat[-1] > maps[-1]):
        return []  # what comes after the maps is tokens: a map would only be the patch embedding
    last_of_area: dict[int, str] = {}
    smallest = math.inf
    for i in maps:
        point, shape = outputs[i]
        area = shape[2] * shape[3]
        if area <= smallest and not _in_a_block(model, point.module, inputs, shapes):
            smallest = area
            last_of_area[area] = point.module
    return list(last_of_area.values())


def _own(model: nn.Module, attribute: str, shapes: _Shapes) -> tuple[str, ...]:
    """A model's own list of stages, all of which a forward pass has to go through."""
    names = own_stages(model, attribute)
    for name in names:
        if Point(name) not in shapes:
            raise InputError(
                f"{type(model).__name__}.{attribute} names {name!r}, which gives no tensor (B, ...) in a forward pass; "
                "name submodules that the pass goes through"
            )
    return names


def _in_a_block(model: nn.Module, name: str, inputs: _Inputs, outputs: _Shapes) -> bool:
    """Whether a submodule belongs to a block, which is one step of the network however it is built inside.

    A block is no plain sequence and at most halves the sides of its map; what does more is a trunk of several stages.
    """
    parts = name.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        given, made = inputs.get(parent), outputs.get(Point(parent))
        if given is None or made is None or isinstance(model.get_submodule(parent), nn.Sequential):
            continue
        if len(given) == 4 and len(made) == 4 and given[2] <= 2 * made[2]:
            return True
    return False


def _without_ends(names: tuple[str, ...], shapes: _Shapes) -> list[str]:
    """A list in the literature's form (stem, stages, pooled vector) without its ends; any other list as it is."""
    if len(names) > 2 and len(shapes[Point(names[-1])]) == 2:
        return list(names[1:-1])
    return list(names)


def _grid_of(model: nn.Module) -> tuple[tuple[int, int] | None, int]:
    """Height and width of a timm transformer's token grid, and the number of tokens before it."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if not isinstance(grid, Sequence) or len(grid) != 2:
        return None, 0
    return (int(grid[0]), int(grid[1])), int(getattr(model, "num_prefix_tokens", 0))


@contextmanager
def _hooks(handles: Iterable[Any]) -> Any:
    """Hooks inside, none after."""
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()
