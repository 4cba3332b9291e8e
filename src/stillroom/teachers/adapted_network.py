"""Adapted network: a teacher that takes images as the student does, for views and for measuring speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models.output import logits_of
from stillroom.teachers.class_map import ClassMap
from stillroom.teachers.class_mapped import ClassMapped
from stillroom.teachers.prepared_teacher import PreparedTeacher
from stillroom.teachers.torch_teacher import TorchTeacher


class AdaptedNetwork(nn.Module):
    """A network behind a change of the input format.

    Its input has any size. Where that is the student's, and smaller than the stored images, the network sees less
    detail than in training.

    Args:
        network: takes images in the format ``inner``.
        outer: the format of the given images.
        inner: the format of the network.
        class_map: from its classes to those of the data; None where they are the same.
    """

    def __init__(
        self, network: nn.Module, outer: InputFormat, inner: InputFormat, class_map: ClassMap | None = None
    ) -> None:
        super().__init__()
        self.network, self._class_map = network, class_map
        self._inner, self._to_inner = inner, InputTransform(inner)
        if class_map is not None:  # its index tensors are made now: those made while tracing would be no real tensors
            class_map.apply(torch.zeros(1, len(class_map.index)))
        self._mean: Tensor
        self._std: Tensor
        self.register_buffer("_mean", torch.tensor(outer.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(outer.std).view(1, -1, 1, 1), persistent=False)

    def place(self, device: torch.device) -> AdaptedNetwork:
        """Move it to a device, with its change of the input format."""
        self._to_inner = InputTransform(self._inner, device)
        return self.to(device)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the data's classes for images (B, channels, H, W), normalised in the outer format."""
        logits = logits_of(self.network(self.inner_images(images)))
        return logits if self._class_map is None else self._class_map.apply(logits)

    def inner_images(self, images: Tensor) -> Tensor:
        """Images in the outer format (B, channels, H, W) as the network inside takes them."""
        return self._to_inner((images * self._std + self._mean) * 255)


def as_network(teacher: PreparedTeacher, student: InputFormat) -> nn.Module:
    """The only teacher as a network that takes images as the student does, on the CPU in evaluation mode.

    Args:
        teacher: as it was prepared.
        student: the student's input format.

    Raises:
        InputError: it is no network in this process, or several, or it gives embeddings.
    """
    member = teacher.members[0]
    inner = member.raw
    if len(teacher.members) > 1 or not isinstance(inner, TorchTeacher):
        raise InputError("the teacher is not a single PyTorch network")
    if inner.offers == "embedding":
        raise InputError("the teacher gives embeddings and has no classifier")
    class_map = member.mapped.class_map if isinstance(member.mapped, ClassMapped) else None
    if inner.shares_input and class_map is None:
        return inner.model.eval()
    return AdaptedNetwork(inner.model, student, inner.input_format, class_map).eval()
