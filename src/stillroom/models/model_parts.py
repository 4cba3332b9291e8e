"""What a network offers to losses beside its logits, and the reader that takes it out of each forward pass.

The record is filled by :func:`stillroom.models.probe.probe_model`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from stillroom.models.hooks import FeatureTap, Point, inside

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
class ModelParts:
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

    def places(self, part: str) -> tuple[Place, ...]:
        """Where the tensors of a part of :data:`PARTS` are read; none for the head, which is a layer."""
        if part in ("features", "maps"):
            return self.stages
        if part == "preact_maps":
            return self.preact
        if part == "embedding":
            return (Place(Point(self.head, "input"), (), "other"),)
        if part == "final_map" and self.final_map is not None:
            return (Place(self.final_map, (), "map"),)
        return ()

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


class PartsReader:
    """Reads the wanted parts of a model out of each forward pass.

    Args:
        model: the model that ``offers`` describes.
        offers: from ``probe_model``, its levels paired by ``pair_levels`` if two models are compared.
        parts: some of :data:`PARTS`.
    """

    def __init__(self, model: nn.Module, offers: ModelParts, parts: Iterable[str]) -> None:
        wanted = set(parts)
        self._parts = {part: offers.places(part) for part in PARTS if part in wanted}
        self._head = inside(model).get_submodule(offers.head) if offers.head else None
        self._points = list(dict.fromkeys(place.point for places in self._parts.values() for place in places))
        self._tap = FeatureTap(model, self._points)

    def read(self) -> dict[str, Any]:
        """The parts from the latest pass, by name, attached to its graph.

        Tensors are float32, whatever the pass computed in: a loss never has to know about autocast. Each is converted
        once, however many parts show it, and its gradient goes back in the pass's own format. The head is the model's
        own layer, with the weights it has.
        """
        found = zip(self._points, self._tap.features(), strict=True)
        tensors = {point: value.float() if value.is_floating_point() else value for point, value in found}
        self._tap.release()
        return {part: self._read(part, places, tensors) for part, places in self._parts.items()}

    def release(self) -> None:
        """Drop the latest pass's tensors without reading them."""
        self._tap.release()

    def close(self) -> None:
        """Remove the hooks."""
        self._tap.close()

    def _read(self, part: str, places: tuple[Place, ...], tensors: dict[Point, Tensor]) -> Any:
        if part == "head":
            return self._head
        if part in ("maps", "preact_maps"):
            return tuple(place.as_map(tensors[place.point]) for place in places)
        found = tuple(tensors[place.point] for place in places)
        return found if part == "features" else found[0]
