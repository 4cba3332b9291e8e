"""Model signature: the named inputs and outputs of an ONNX file or of a served model, and which of them to use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.teachers.teacher import Offer

FLOATS = (torch.float16, torch.float32, torch.float64)
INTEGERS = (torch.int32, torch.int64, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: in the model.
        dtype: of its values; None for a type that PyTorch does not have.
        shape: None for a side of any length.
    """

    name: str
    dtype: torch.dtype | None
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        """Name, type and shape, as in messages."""
        kind = "another type" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return f"{self.name} ({kind}, {' x '.join('?' if n is None else str(n) for n in self.shape) or 'no shape'})"


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The input that takes images.

    Attributes:
        name: in the model.
        dtype: float16, float32 or float64.
        batch: the number of images that it takes at once; None for any number.
        size: height and width in pixels; None for any size.
        channels_last: whether its shape is (B, H, W, C) instead of (B, C, H, W).
    """

    name: str
    dtype: torch.dtype
    batch: int | None
    size: tuple[int, int] | None
    channels_last: bool

    def arrange(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) in the input's layout and type, contiguous."""
        return (images.permute(0, 2, 3, 1) if self.channels_last else images).to(self.dtype).contiguous()

    def agree(self, wanted: InputFormat, source: str) -> InputFormat:
        """The format with the input's size.

        Raises:
            InputError: the format has another size.
        """
        if self.size is None or wanted.size == self.size:
            return wanted
        if wanted.size is not None:
            raise InputError(
                f"{source} takes images of {self.size[1]}x{self.size[0]} pixels only, and teacher_image_size is "
                f"{wanted.size[1]}x{wanted.size[0]}; leave teacher_image_size out"
            )
        return replace(wanted, size=self.size)


def image_input(inputs: Sequence[TensorSpec], channels: int, source: str) -> ImageInput:
    """Find the input that takes images.

    Args:
        inputs: all required inputs of the model.
        channels: of the images.
        source: the model as the user names it, for messages.

    Raises:
        InputError: there is not exactly one input, it is not a float tensor of four dimensions, or it has another
            number of channels.
    """
    if len(inputs) != 1:
        raise InputError(f"{source} has {_listed(inputs, 'input')}; a teacher has one input, the images")
    spec = inputs[0]
    if len(spec.shape) != 4 or spec.dtype not in FLOATS:
        raise InputError(
            f"{source}: its input {spec} is no batch of images; it must have floating-point values and the shape "
            "(batch, channels, height, width)"
        )
    assert spec.dtype is not None
    batch, first, middle, last = spec.shape
    channels_last = first != channels and last == channels
    if first not in (None, channels) and not channels_last:
        raise InputError(f"{source}: its input {spec} has {first} channels, and the images have {channels}")
    height, width = (first, middle) if channels_last else (middle, last)
    size = None if height is None or width is None else (height, width)
    return ImageInput(spec.name, spec.dtype, batch, size, channels_last)


def prediction_outputs(
    outputs: Sequence[TensorSpec], offers: Offer, wanted: Sequence[str], source: str
) -> tuple[TensorSpec, ...]:
    """Find the outputs that hold the predictions.

    Args:
        outputs: all outputs of the model.
        offers: what they hold.
        wanted: the names of the outputs to use; empty to choose by type and shape.
        source: the model as the user names it, for messages.

    Returns:
        One output; for top-k the classes and their scores.

    Raises:
        InputError: no output fits, more than one fits, or a name is unknown.
    """
    names = [spec.name for spec in outputs]
    if unknown := [name for name in wanted if name not in names]:
        raise InputError(
            f"teacher_output_name={','.join(wanted)}: {source} has no output {unknown[0]}; it has "
            f"{_listed(outputs, 'output')}"
        )
    allowed = [spec for spec in outputs if not wanted or spec.name in wanted]
    if offers == "top-k":
        return (_only(allowed, INTEGERS, 2, "classes", source), _only(allowed, FLOATS, 2, "scores", source))
    if offers == "labels":
        return (_only(allowed, INTEGERS, 1, offers, source),)
    return (_only(allowed, FLOATS, 2, offers, source),)


def _only(outputs: Sequence[TensorSpec], kinds: Sequence[torch.dtype], rank: int, what: str, source: str) -> TensorSpec:
    """The only output of a type and rank; labels may have a second side of length 1."""
    fitting = [
        spec
        for spec in outputs
        if spec.dtype in kinds and (len(spec.shape) == rank or (rank == 1 and spec.shape[1:] in ((1,), (None,))))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(
            f"{source} has {len(fitting)} outputs that can hold {what}: {', '.join(map(str, fitting))}; "
            "give teacher_output_name="
        )
    values = "whole numbers" if kinds is INTEGERS else "floating-point values"
    shape = "(batch,)" if rank == 1 else "(batch, classes)" if what != "scores" else "(batch, k)"
    raise InputError(
        f"{source} has {_listed(outputs, 'output')}; none of them has {values} of shape {shape} for {what}: set "
        "teacher_output to what it offers"
    )


def _listed(specs: Sequence[TensorSpec], what: str) -> str:
    """How many inputs or outputs, and which."""
    if not specs:
        return f"no {what}"
    return f"{len(specs)} {what}{'s' * (len(specs) > 1)}: {', '.join(map(str, specs))}"
