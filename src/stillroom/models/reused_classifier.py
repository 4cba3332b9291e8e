"""Reused teacher classifier: a student whose logits come from a frozen copy of the teacher's last layer (SimKD)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from stillroom.errors import InputError
from stillroom.models.hooks import Capture, Point, submodule
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating
from stillroom.models.probe import probe_model

MAX_WEIGHTS = 2**31  # of a projector and a head that a file may describe; 8192 channels stay below it


class ReusedHead(nn.Module):
    """The user's student up to its final map, a projector to the teacher's channels, and the teacher's last layer.

    The projector is the published bottleneck: convolutions 1x1, 3x3 and 1x1, each followed by batch norm and ReLU.
    The output of the submodule ``projected`` is the map that SimKD compares with the teacher's. Its global average
    goes through ``head``, a frozen copy of the teacher's.

    The whole student runs. The layers after its final map, such as its own classifier, stay in the module, but the
    logits do not depend on them and they get no gradient. A hook on the student reads the map and holds no tensor
    between two passes. Copies and pickles have their own student with its own hook. The state dict holds the student,
    the projector and the head. After :meth:`remove_hook` the student has a hook only during a pass.

    Args:
        student: any module that makes a final map (B, student_channels, H, W).
        final_map: the place of that map: a submodule's name for its output, or a :class:`Point`.
        student_channels: channels of that map.
        head: the teacher's last linear layer. Its input width is the number of channels projected to.
        factor: the projector's inner width is ``head.in_features // factor``.
        size: height and width of the teacher's final map. A larger side of the student's map is average-pooled to it
            before the projection; a smaller side stays. None: no pooling.

    Raises:
        InputError: the student has no such submodule, the factor leaves no channel, or a size is below 1.

    Example:
        >>> import torch
        >>> from stillroom.models import ZOO
        >>> teacher, student = ZOO["resnet8x4"](10), ZOO["resnet8"](10)
        >>> reused = ReusedHead(student, "layer3", 64, teacher.fc)
        >>> reused(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        student: nn.Module,
        final_map: str | Point,
        student_channels: int,
        head: nn.Linear,
        *,
        factor: int = 2,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if factor < 1 or head.in_features // factor < 1:
            raise InputError(
                f"factor is {factor}: it must be between 1 and the teacher's {head.in_features} channels (2 is usual)"
            )
        if student_channels < 1 or (size is not None and min(size) < 1):
            raise InputError(f"student_channels is {student_channels} and size {size}: both must be at least 1")
        self.student = student
        self.final_map = Point(final_map) if isinstance(final_map, str) else final_map
        self._capture = Capture()
        # A permanent hook, so that torch.compile sees the same module in every pass.
        self._permanent = True
        self._add_hook()
        self.size = size
        self.factor = factor
        self.projector = _projector(student_channels, head.in_features, head.in_features // factor)
        self.projected = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = copy.deepcopy(head).requires_grad_(False)
        anchor = next(student.parameters(), None)
        if anchor is not None:
            for part in (self.projector, self.head):
                part.to(anchor.device)

    def plan(self) -> dict[str, Any]:
        """The plain values from which :func:`from_plan` builds this wrapper again."""
        return {
            "final_map": [self.final_map.module, self.final_map.side],
            "student_channels": self.projector[0].in_channels,
            "teacher_channels": self.head.in_features,
            "bias": self.head.bias is not None,
            "factor": self.factor,
            "size": None if self.size is None else list(self.size),
        }

    def remove_hook(self) -> None:
        """Remove the permanent hook from the student. From now on each pass adds and removes its own."""
        source = submodule(self.student, self.final_map.module)
        for hooks in (source._forward_hooks, source._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook is self._capture]:
                del hooks[key]
        self._permanent = False

    def _add_hook(self) -> RemovableHandle:
        source = submodule(self.student, self.final_map.module)
        if self.final_map.side == "input":
            return source.register_forward_pre_hook(self._capture)
        return source.register_forward_hook(self._capture)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, classes) of the teacher's classifier."""
        self._capture.take()
        if self._permanent:
            self.student(images)
        else:
            handle = self._add_hook()
            try:
                self.student(images)
            finally:
                handle.remove()
        feature = self._capture.take()
        if feature is None or feature.dim() != 4:
            shape = "which gave no tensor" if feature is None else f"of shape {tuple(feature.shape)}"
            raise InputError(f"final_map is {self.final_map}, {shape}: SimKD needs a map (B, C, H, W)")
        projected = self.projected(self.projector(self._pooled(feature)))
        logits: Tensor = self.head(self.flatten(self.pool(projected)))
        return logits

    def _pooled(self, feature: Tensor) -> Tensor:
        """The map, average-pooled to at most the teacher's size."""
        if self.size is None:
            return feature
        height, width = min(feature.shape[2], self.size[0]), min(feature.shape[3], self.size[1])
        if feature.shape[2:] == (height, width):
            return feature
        if feature.shape[2] % height or feature.shape[3] % width:
            return functional.adaptive_avg_pool2d(feature, (height, width))
        return functional.avg_pool2d(feature, (feature.shape[2] // height, feature.shape[3] // width))


def reuse_head(
    student: nn.Module, teacher: nn.Module, images: Tensor, teacher_images: Tensor | None = None, *, factor: int = 2
) -> ReusedHead:
    """Wrap a student so that it uses the teacher's classifier.

    Args:
        student: ends in the global average of a map and one linear layer.
        teacher: ends in the same way.
        images: two or more images (B, C, H, W) for the student.
        teacher_images: the same images for the teacher, where it takes them in another format.
        factor: as for :class:`ReusedHead`.

    Raises:
        InputError: a network ends in another way, or the factor is out of range.
    """
    places, parts = [], []
    shown = images if teacher_images is None else teacher_images
    for side, model, given in (("student", student, images), ("teacher", teacher, shown)):
        offers = probe_model(model, given)
        reason = offers.lacks("final_map")
        if reason or offers.final_map is None:
            raise InputError(f"the {side} cannot share a classifier: {reason}")
        reader = PartsReader(model, offers, ("final_map", "head"))
        with evaluating(model), torch.no_grad():
            model(given)
        places.append(offers.final_map)
        parts.append(reader.read())
        reader.close()
    channels = parts[0]["final_map"].shape[1]
    height, width = parts[1]["final_map"].shape[2:]
    return ReusedHead(student, places[0], channels, parts[1]["head"], factor=factor, size=(height, width))


def from_plan(student: nn.Module, plan: dict[str, Any], num_classes: int) -> ReusedHead:
    """Build a :class:`ReusedHead` as :meth:`ReusedHead.plan` describes it, with fresh weights to load others into.

    Raises:
        InputError: the plan, which comes from a file, is damaged.
    """
    try:
        (module, side), size = plan["final_map"], plan["size"]
        wanted, given = plan["teacher_channels"], plan["student_channels"]
        counts = [wanted, given, plan["factor"], *(size or (1, 1))]
        fits = side in ("input", "output") and isinstance(module, str) and len(counts) == 5
        fits = fits and all(type(count) is int and count > 0 for count in counts)
        fits = fits and wanted * (given + 9 * wanted + num_classes) <= MAX_WEIGHTS and isinstance(plan["bias"], bool)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError("reused_head: this record of the teacher's classifier is damaged: Stillroom did not write it")
    head = nn.Linear(plan["teacher_channels"], num_classes, bias=plan["bias"])
    return ReusedHead(
        student,
        Point(module, side),
        plan["student_channels"],
        head,
        factor=plan["factor"],
        size=None if size is None else (size[0], size[1]),
    )


def _projector(in_channels: int, out_channels: int, width: int) -> nn.Sequential:
    """Convolutions 1x1, 3x3 and 1x1, each with batch norm and ReLU, with ``width`` channels in between."""
    layers: list[nn.Module] = []
    for before, after, kernel in ((in_channels, width, 1), (width, width, 3), (width, out_channels, 1)):
        layers.append(nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
