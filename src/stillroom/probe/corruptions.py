"""C-style corruptions: fifteen ways in which images get worse, at five severities.

The kinds are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019. The code and the strengths are our own, so numbers from here are not comparable with those of
the official CIFAR-C and ImageNet-C files; :mod:`stillroom.probe.official_c` reads these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillroom.errors import InputError
from stillroom.probe.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from stillroom.probe.digital import brightness, elastic_transform, jpeg_compression, lower_contrast, pixelate
from stillroom.probe.image_fields import SEVERITIES, Draws, Pixels
from stillroom.probe.noise import gaussian_noise, impulse_noise, shot_noise
from stillroom.probe.weather import fog, frost, snow
from stillroom.report.corruption_errors import CORRUPTION_GROUPS

Corruption = Callable[[Pixels, Draws, int], Pixels]

LEAST_SIDE = 8
_VALUES = 2**20  # of images that are corrupted together
_CHANGES: dict[str, Corruption] = {
    "contrast": lower_contrast,
    **{
        function.__name__: function
        for function in (
            gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, fog,
            brightness, elastic_transform, pixelate, jpeg_compression,
        )
    },
}  # fmt: skip

# Kind -> group.
CORRUPTIONS: Mapping[str, str] = MappingProxyType(
    {kind: group for group, kinds in CORRUPTION_GROUPS.items() for kind in kinds}
)


def corrupted(images: Tensor, ids: Tensor, corruption: str, severity: int, seed: int = 0) -> Tensor:
    """Corrupt images.

    An image's result depends on its pixels and on (seed, its id, corruption, severity) only.

    Args:
        images: uint8 (n, C, H, W) on the CPU, 1 or 3 channels, sides of 8 pixels or more; not changed.
        ids: int64 (n,), the sample ids, >= 0.
        corruption: a key of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        seed: >= 0.

    Returns:
        uint8 (n, C, H, W).

    Raises:
        InputError: an argument is outside its range.
    """
    _check(images, corruption, severity, seed)
    change = partial(frost, seed=seed) if corruption == "frost" else _CHANGES[corruption]
    at_once = max(1, _VALUES // max(1, images[:1].numel()))
    made = torch.empty_like(images)
    for start in range(0, len(images), at_once):
        part = slice(start, start + at_once)
        draws = [generator(seed, number, corruption, severity) for number in ids[part].tolist()]
        pixels = images[part].numpy().astype(np.float32) / np.float32(255)
        made[part] = torch.from_numpy(_as_bytes(change(pixels, draws, severity)))
    return made


def generator(seed: int, sample_id: int, corruption: str, severity: int) -> np.random.Generator:
    """The random numbers of one image, which follow from the arguments only."""
    words = f"{seed} {sample_id} {corruption} {severity}".encode()
    key = int.from_bytes(hashlib.blake2b(words, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))


def _as_bytes(pixels: Pixels) -> NDArray[np.uint8]:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _check(images: Tensor, corruption: str, severity: int, seed: int) -> None:
    if corruption not in CORRUPTIONS:
        raise InputError(f"corruption is {corruption!r}; give one of {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity is {severity}; give 1 to {SEVERITIES[-1]}")
    if seed < 0:
        raise InputError(f"seed is {seed}; give 0 or more")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(
            f"images are {images.dtype} {tuple(images.shape)}; corruptions need uint8 of shape (n, 1 or 3, H, W)"
        )
    if min(images.shape[2:]) < LEAST_SIDE:
        raise InputError(
            f"images are {images.shape[2]}x{images.shape[3]}; corruptions need sides of {LEAST_SIDE} pixels"
        )
