"""Reading what losses compare out of a model's own forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from stillroom.models.hooks import FeatureTap, Point, inside
from stillroom.models.probe import PARTS, Anatomy, Place


class Watch:
    """Reads the wanted parts of a model out of each forward pass.

    Args:
        model: the model that ``anatomy`` describes.
        anatomy: from :func:`examine`, its levels paired by :func:`pair_levels` if two models are compared.
        parts: some of :data:`PARTS`.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy, parts: Iterable[str]) -> None:
        self._anatomy = anatomy
        self._parts = [part for part in PARTS if part in set(parts)]
        self._head = inside(model).get_submodule(anatomy.head) if anatomy.head else None
        places = {part: self._places(part) for part in self._parts}
        points = list(dict.fromkeys(place.point for found in places.values() for place in found))
        self._places_of = places
        self._points = points
        self._tap = FeatureTap(model, points)

    def read(self) -> dict[str, Any]:
        """The parts from the latest pass, by name, attached to its graph.

        Tensors are float32, whatever the pass computed in: a loss never has to know about autocast. Each is converted
        once, however many parts show it, and its gradient goes back in the pass's own format. The head is the model's
        own layer, with the weights it has.
        """
        found = zip(self._points, self._tap.features(), strict=True)
        tensors = {point: value.float() if value.is_floating_point() else value for point, value in found}
        self._tap.release()
        return {part: self._read(part, tensors) for part in self._parts}

    def release(self) -> None:
        """Let the latest pass's tensors go unread."""
        self._tap.release()

    def close(self) -> None:
        """Take the hooks away."""
        self._tap.close()

    def _places(self, part: str) -> tuple[Place, ...]:
        anatomy = self._anatomy
        if part in ("features", "maps"):
            return anatomy.stages
        if part == "preact_maps":
            return anatomy.preact
        if part == "embedding":
            return (Place(Point(anatomy.head, "input"), (), "other"),)
        if part == "final_map" and anatomy.final_map is not None:
            return (Place(anatomy.final_map, (), "map"),)
        return ()

    def _read(self, part: str, tensors: dict[Point, Tensor]) -> Any:
        if part == "head":
            return self._head
        places = self._places_of[part]
        if part in ("maps", "preact_maps"):
            return tuple(place.as_map(tensors[place.point]) for place in places)
        found = tuple(tensors[place.point] for place in places)
        return found if part == "features" else found[0]
