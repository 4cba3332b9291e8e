"""Model probe: finds a classifier's stages, final map, embedding and head in two forward passes.

The first pass finds the linear layer that computes the logits, and its input, the embedding. The second pass finds the
map whose global average is the embedding. The stages are the model's own list, timm's, or the last map of each size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillroom.errors import InputError
from stillroom.models.hooks import SIDES, FeatureTap, Point, inside, own_stages, stages_of
from stillroom.models.model_parts import ModelParts, Place
from stillroom.models.output import evaluating, logits_of

_Shapes = dict[Point, tuple[int, ...]]
_Inputs = dict[str, tuple[int, ...]]


def probe_model(model: nn.Module, images: Tensor, *, headless: bool = False) -> ModelParts:
    """Find a model's stages, head and final map by running it twice.

    The passes run in evaluation mode without gradients. The model is not changed.

    Args:
        model: any classifier whose output ``logits_of`` understands.
        images: two or more different images (B, C, H, W) that it accepts.
        headless: whether the model has no classifier and returns the embedding (B, D), such as a timm model with
            ``num_classes=0``.

    Raises:
        InputError: a headless model returns anything but one vector per image; or the model's own ``stages`` or
            ``preact_stages`` name something that is no submodule or returns no tensor, or the two lists differ in
            length.
    """
    inner = inside(model)
    with evaluating(model), torch.no_grad():
        head, embedding = ("", _embedding_of(model, images)) if headless else _find_head(model, images)
        trace = _trace(model, images, embedding)
    shapes = {point: shape for point, shape in trace.shapes.items() if point.side == "output"}
    inputs = {point.module: shape for point, shape in trace.shapes.items() if point.side == "input"}
    grid, prefix = _grid_of(inner)
    last = getattr(inner, "output_fmt", "") == "NHWC"  # timm's attribute for channels-last maps

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
    return ModelParts(type(inner).__name__, stages, preact, head, trace.final_map, headless)


def _embedding_of(model: nn.Module, images: Tensor) -> Tensor:
    """The output of a model without a classifier."""
    output = model(images)
    if isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] > 0:
        return output
    found = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise InputError(
        f"the model {type(inside(model)).__name__} returns {found} for {len(images)} images; a model whose output is "
        "the embedding must return one vector per image, (B, D)"
    )


def pair_levels(first: ModelParts, second: ModelParts) -> tuple[ModelParts, ModelParts]:
    """Reduce two models to the same number of stages, so that stage i of one is compared with stage i of the other.

    The deepest stages are kept. A model whose maps all have one size, such as a plain vision transformer, keeps evenly
    spaced stages, including the last.
    """
    count = min(len(first.stages), len(second.stages))
    return _keep_levels(first, count), _keep_levels(second, count)


def _keep_levels(offers: ModelParts, count: int) -> ModelParts:
    total = len(offers.stages)
    isotropic = len({place.size for place in offers.stages}) == 1
    chosen = [(i + 1) * total // count - 1 for i in range(count)] if isotropic else list(range(total - count, total))
    return dataclasses.replace(
        offers,
        stages=tuple(offers.stages[i] for i in chosen),
        preact=tuple(offers.preact[i] for i in chosen),
    )


def _find_head(model: nn.Module, images: Tensor) -> tuple[str, Tensor | None]:
    """The linear layer whose output is the logits, and its input."""
    linear = [name for name, module in inside(model).named_modules() if name and isinstance(module, nn.Linear)]
    seen: dict[Point, Tensor] = {}

    def remember(point: Point, tensor: Tensor) -> None:
        seen.pop(point, None)  # a layer that runs twice counts at its last call
        seen[point] = tensor.clone()

    with FeatureTap(model, [Point(name, side) for name in linear for side in SIDES], read=remember):
        logits = logits_of(model(images))
    for point, made in reversed(seen.items()):
        given = seen.get(Point(point.module, "input"))
        if point.side == "output" and given is not None and made.shape == logits.shape and torch.equal(made, logits):
            return point.module, given
    return "", None


@dataclass
class _Trace:
    """Shapes of all submodules' inputs and outputs in the order of the pass, and the map averaged to the embedding."""

    shapes: _Shapes
    final_map: Point | None = None


def _trace(model: nn.Module, images: Tensor, embedding: Tensor | None) -> _Trace:
    trace = _Trace({})

    def look(point: Point, tensor: Tensor) -> None:
        if tensor.dim() < 2:
            return
        trace.shapes.pop(point, None)  # a module that runs twice counts at its last call
        trace.shapes[point] = tuple(tensor.shape)
        if embedding is not None and _averages_to(tensor, embedding):
            trace.final_map = point

    names = [name for name, _ in inside(model).named_modules() if name]
    with FeatureTap(model, [Point(name, side) for name in names for side in SIDES], read=look):
        model(images)
    return trace


def _averages_to(feature: Tensor, embedding: Tensor) -> bool:
    """Whether an embedding is the global average of a map with more than one pixel."""
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
        return []  # tokens follow the maps: the only map is the patch embedding
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
    """A model's own list of stages; each must return a tensor in a forward pass."""
    names = own_stages(model, attribute)
    for name in names:
        if Point(name) not in shapes:
            raise InputError(
                f"{type(model).__name__}.{attribute} names {name!r}, which gives no tensor (B, ...) in a forward pass; "
                "name submodules that the forward pass calls"
            )
    return names


def _in_a_block(model: nn.Module, name: str, inputs: _Inputs, outputs: _Shapes) -> bool:
    """Whether a submodule is inside a block, whose inner maps are not stages.

    A block is not a plain ``Sequential`` and at most halves height and width. A module that reduces them more contains
    several stages.
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
    """A list of the form (stem, stages, pooled vector) without its ends; any other list unchanged."""
    if len(names) > 2 and len(shapes[Point(names[-1])]) == 2:
        return list(names[1:-1])
    return list(names)


def _grid_of(model: nn.Module) -> tuple[tuple[int, int] | None, int]:
    """Height and width of a timm transformer's token grid, and the number of prefix tokens."""
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if not isinstance(grid, Sequence) or len(grid) != 2:
        return None, 0
    return (int(grid[0]), int(grid[1])), int(getattr(model, "num_prefix_tokens", 0))
