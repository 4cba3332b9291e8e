"""Model parts: the features, maps, embedding and head that losses use, and the reader that records them in a pass.

:class:`ModelParts` is made by :func:`stillroom.models.probe.probe_model`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from stillroom.models.hooks import WHOLE, FeatureTap, Point, inside

PARTS = ("features", "maps", "preact_maps", "embedding", "final_map", "head")


@dataclass(frozen=True, slots=True)
class Place:
    """A recorded tensor and how to convert it to a map (B, C, H, W).

    Attributes:
        point: the input or output of a submodule.
        shape: of one sample, in the model's layout.
        layout: channels first, channels last, tokens on a known grid, or anything else.
        grid: height and width of the token grid.
        prefix: number of tokens before the grid, such as the class token.
    """

    point: Point
    shape: tuple[int, ...]
    layout: Literal["map", "channels_last", "tokens", "other"]
    grid: tuple[int, int] = (0, 0)
    prefix: int = 0

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width; None if it is not a map."""
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
    """The parts of a model that losses can use.

    Attributes:
        model: its class name, for messages.
        stages: the outputs of its stages, shallow to deep, without stem and pooled vector.
        preact: the same before their last activation; equal to ``stages`` if the model does not name these.
        head: name of the linear layer that computes the logits; empty if there is none.
        final_map: the map whose global average is the embedding; None if there is none.
        headless: whether the model has no classifier and its output is the embedding.
    """

    model: str
    stages: tuple[Place, ...]
    preact: tuple[Place, ...]
    head: str
    final_map: Point | None
    headless: bool = False

    def places(self, part: str) -> tuple[Place, ...]:
        """The recorded tensors of a part of :data:`PARTS`; none for the head, which is a layer."""
        if part in ("features", "maps"):
            return self.stages
        if part == "preact_maps":
            return self.preact
        if part == "embedding" and self.headless:
            return (Place(Point(WHOLE), (), "other"),)
        if part == "embedding":
            return (Place(Point(self.head, "input"), (), "other"),)
        if part == "final_map" and self.final_map is not None:
            return (Place(self.final_map, (), "map"),)
        return ()

    def lacks(self, part: str) -> str:
        """Why a part of :data:`PARTS` is missing, as text for a message; empty if it is available."""
        if part == "features" and not self.stages:
            return f"{self.model} names no stages: give it an attribute stages, a tuple of submodule names"
        if part in ("maps", "preact_maps"):
            places = self.stages if part == "maps" else self.preact
            odd = next((place for place in places if place.size is None), None)
            if odd is not None:
                return f"{self.model} returns {list(odd.shape)} per sample at {odd.point}, not a map (C, H, W)"
            if not places:
                return f"{self.model} has no spatial maps that can be found: give it an attribute stages"
        if part == "head" and self.headless:
            return f"{self.model} has no classifier"
        if part in ("embedding", "head") and not self.head and not self.headless:
            return f"{self.model} does not end in one linear layer"
        if part == "final_map" and self.final_map is None:
            return f"{self.model} does not end in the global average of a map (more than 1 x 1) and one linear layer"
        return ""


class PartsReader:
    """Reads parts of a model from each forward pass.

    Args:
        model: the model that ``offers`` describes.
        offers: from ``probe_model``, and from ``pair_levels`` if two models are compared.
        parts: some of :data:`PARTS`.
    """

    def __init__(self, model: nn.Module, offers: ModelParts, parts: Iterable[str]) -> None:
        wanted = set(parts)
        self._parts = {part: offers.places(part) for part in PARTS if part in wanted}
        self._head = inside(model).get_submodule(offers.head) if offers.head else None
        self._points = list(dict.fromkeys(place.point for places in self._parts.values() for place in places))
        self._tap = FeatureTap(model, self._points)

    def read(self) -> dict[str, Any]:
        """The parts of the latest pass, by name, attached to its graph.

        Tensors are float32 also under autocast, so losses need not handle other dtypes. Each is converted once, even
        if several parts contain it; its gradient has the dtype of the pass. The head is the model's own layer.
        """
        found = zip(self._points, self._tap.features(), strict=True)
        tensors = {point: value.float() if value.is_floating_point() else value for point, value in found}
        self._tap.release()
        return {part: self._read(part, places, tensors) for part, places in self._parts.items()}

    def release(self) -> None:
        """Drop the tensors of the latest pass."""
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
