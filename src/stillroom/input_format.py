"""Input format of a network: the size, interpolation, mean and standard deviation with which it takes images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stillroom.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True, slots=True)
class InputFormat:
    """How a network takes images.

    Attributes:
        mean: of each channel on [0, 1].
        std: of each channel on [0, 1], > 0.
        size: height and width in pixels; None takes images at their own size.
        interpolation: how images are resized, always with antialiasing where they become smaller.

    Raises:
        InputError: mean and std differ in length, a std is not above 0, or a side is below 1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise InputError(f"mean has {len(self.mean)} values and std {len(self.std)}; give one each a channel")
        if min(self.std) <= 0:
            raise InputError(f"std is {self.std}; give values above 0")
        if self.size is not None and min(self.size) < 1:
            raise InputError(f"size is {self.size}; give sides of 1 pixel or more")

    def __str__(self) -> str:
        """The format in one line."""
        numbers = [", ".join(f"{value:.3g}" for value in values) for values in (self.mean, self.std)]
        where = "" if self.size is None else f"{self.size[1]}x{self.size[0]} pixels ({self.interpolation}), "
        return f"{where}mean {numbers[0]}, std {numbers[1]}"


class InputTransform:
    """Turns pixels into a network's input, on a device.

    Args:
        wanted: the format.
        device: of the pixels.
        layout: memory format of the result.
    """

    def __init__(
        self, wanted: InputFormat, device: torch.device | str = "cpu", layout: torch.memory_format | None = None
    ) -> None:
        import torch

        self.wanted = wanted
        self._layout = torch.contiguous_format if layout is None else layout
        deviation = torch.tensor(wanted.std, dtype=torch.float64)
        # (v / 255 - mean) / std as one multiplication and one addition.
        self._scale = (1 / (255 * deviation)).float().view(1, -1, 1, 1).to(device)
        offset = -torch.tensor(wanted.mean, dtype=torch.float64) / deviation
        self._offset = offset.float().view(1, -1, 1, 1).to(device)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Resize and normalise a batch.

        Args:
            pixels: uint8 or float tensor (B, C, H, W) with values in [0, 255]; not changed.

        Returns:
            float32 tensor (B, C, height, width).
        """
        import torch

        values = resized(pixels, self.wanted).to(torch.float32, memory_format=self._layout)
        if values is pixels:
            values = values.clone()
        if values.device.type == "cpu" and values.is_contiguous(memory_format=torch.channels_last):
            # Row by row: along the channels, of which there are three, a CPU is slow.
            batch, channels, height, width = values.shape
            rows = values.permute(0, 2, 3, 1).view(batch, height, width * channels)
            rows.mul_(self._scale.flatten().repeat(width)).add_(self._offset.flatten().repeat(width))
            return values
        return values.mul_(self._scale).add_(self._offset)


def resized(pixels: Tensor, wanted: InputFormat) -> Tensor:
    """Resize a batch to a format's size; the same tensor where it has that size.

    Args:
        pixels: uint8 or float tensor (B, C, H, W) with values in [0, 255].
        wanted: the format.

    Returns:
        The pixels themselves, or a float32 tensor (B, C, height, width) with values in [0, 255].
    """
    from torch.nn import functional as F

    if wanted.size is None or tuple(pixels.shape[2:]) == wanted.size:
        return pixels
    if wanted.interpolation == "nearest":
        return F.interpolate(pixels.float(), wanted.size, mode="nearest-exact")
    return F.interpolate(pixels.float(), wanted.size, mode=wanted.interpolation, antialias=True).clamp_(0, 255)
