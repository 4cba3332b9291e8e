"""Official corrupted images that the user has: CIFAR-10-C and CIFAR-100-C, ImageNet-C and Tiny-ImageNet-C.

Formats: https://github.com/hendrycks/robustness. CIFAR-C has ``labels.npy`` and a file for each corruption with the
10,000 test images at severity 1, then at severity 2, and so on. ImageNet-C has ``CORRUPTION/SEVERITY/CLASS/IMAGE``;
its archives put the corruptions into folders named noise, blur, weather, digital and extra, which may stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stillroom.data.image_set import ImageSet
from stillroom.data.source import Source
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.probe.corrupted_sets import CorruptedSet, even_choice
from stillroom.probe.image_fields import SEVERITIES
from stillroom.reading import open_file

ARCHIVES = ("noise", "blur", "weather", "digital", "extra")
_ENDINGS = (".jpeg", ".jpg", ".png")
_PART = 2**26  # values of images in memory at once


def is_official(folder: Path) -> bool:
    """Whether a folder holds corrupted images in one of the two layouts."""
    return folder.is_dir() and ((folder / "labels.npy").is_file() or bool(_corruption_folders(folder)))


def open_official(folder: Path, val: Source, wanted: int) -> CorruptedSet:
    """Open official corrupted images for a network.

    Args:
        folder: of one of the two layouts.
        val: the network's validation images: their shape, and their classes in order.
        wanted: images of each corruption and severity, about as many of each class; 0 for all.

    Raises:
        InputError: the files have other shapes, or the network has other classes.
    """
    made: CorruptedSet = (CifarC if (folder / "labels.npy").is_file() else FolderC)(folder, val, wanted)
    return made


class CifarC:
    """CIFAR-10-C or CIFAR-100-C. Arguments as for :func:`open_official`."""

    def __init__(self, folder: Path, val: Source, wanted: int) -> None:
        self.folder, self._val = folder, val
        labels = _array(folder / "labels.npy")
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or len(labels) % len(SEVERITIES):
            raise InputError(
                f"{shown(folder / 'labels.npy')} has shape {labels.shape} and {labels.dtype}; it must hold one whole "
                "number for each image, of five severities"
            )
        self._each = len(labels) // len(SEVERITIES)
        whole = torch.from_numpy(labels[: self._each].astype(np.int64))
        classes = int(labels.max()) + 1
        if labels.min() < 0 or classes != len(val.classes):
            raise InputError(
                f"{shown(folder)} has {classes} classes and the run has {len(val.classes)}; give the set of the "
                "run's own classes"
            )
        if val.shape[0] != 3:
            raise InputError(f"{shown(folder)} has images with 3 channels and the run takes {val.shape[0]}")
        self._places = even_choice(whole, wanted)
        self._labels, self.count = whole[self._places], len(self._places)
        self.corruptions: Sequence[str] = sorted(file.stem for file in folder.glob("*.npy") if file.stem != "labels")
        if not self.corruptions:
            raise InputError(f"{shown(folder)} has labels.npy and no other .npy file; put the corruptions beside it")
        sizes = []
        for name in self.corruptions:
            shape = self._open(name).shape
            sizes.append(f"{name} {shape} {(folder / f'{name}.npy').stat().st_mtime_ns}")
        self.fingerprint = _digest([*sizes, str(self._places.tolist())])

    def images(self, corruption: str, severity: int) -> Iterator[ImageSet]:
        """See :class:`stillroom.probe.corrupted_sets.CorruptedSet`."""
        rows = self._open(corruption)
        for part in _parts(self.count, self._val):
            places = self._places[part] + (severity - 1) * self._each
            pixels = [Image.fromarray(rows[place]) for place in places.tolist()]
            yield _as_set(pixels, self._labels[part], self._val)

    def _open(self, corruption: str) -> NDArray[np.uint8]:
        path = self.folder / f"{corruption}.npy"
        rows = _array(path)
        length = self._each * len(SEVERITIES)
        if rows.ndim != 4 or rows.shape[0] != length or rows.shape[3] != 3 or rows.dtype != np.uint8:
            raise InputError(
                f"{shown(path)} has shape {rows.shape} and {rows.dtype}; with these labels it must be uint8 of shape "
                f"({length}, height, width, 3)"
            )
        return rows


class FolderC:
    """ImageNet-C or Tiny-ImageNet-C. Arguments as for :func:`open_official`."""

    def __init__(self, folder: Path, val: Source, wanted: int) -> None:
        self._val = val
        self._folders = _corruption_folders(folder)
        self.corruptions: Sequence[str] = sorted(self._folders)
        first = self._listed(self._folders[self.corruptions[0]] / "1")
        labels = torch.tensor([label for _, label in first])
        chosen = even_choice(labels, wanted)
        self._names = [first[place][0] for place in chosen.tolist()]
        self._labels, self.count = labels[chosen], len(chosen)
        for name, path in self._folders.items():
            if missing := [s for s in SEVERITIES if not (path / str(s)).is_dir()]:
                raise InputError(f"{shown(path)}: severity {missing[0]} of {name} is missing; unpack the whole archive")
        times = [f"{name} {path.stat().st_mtime_ns}" for name, path in sorted(self._folders.items())]
        self.fingerprint = _digest([*times, *self._names])

    def images(self, corruption: str, severity: int) -> Iterator[ImageSet]:
        """See :class:`stillroom.probe.corrupted_sets.CorruptedSet`."""
        top = self._folders[corruption] / str(severity)
        for part in _parts(self.count, self._val):
            pixels = []
            for name in self._names[part]:
                try:
                    with Image.open(top / name) as file:
                        pixels.append(file.convert("RGB" if self._val.shape[0] == 3 else "L"))
                except OSError as error:
                    raise InputError(f"{shown(top / name)} cannot be read ({error}); unpack it again") from error
            yield _as_set(pixels, self._labels[part], self._val)

    def _listed(self, top: Path) -> list[tuple[str, int]]:
        """The names of the images, with their folder, and their labels, by class."""
        folders = {path.name for path in top.iterdir() if path.is_dir()}
        absent = [name for name in self._val.classes if name not in folders]
        if absent:
            raise InputError(
                f"{shown(top)} has no folder of class {absent[0]} ({len(absent)} of the run's {len(self._val.classes)} "
                "classes are missing); give the set of the run's own classes"
            )
        listed = [
            (f"{name}/{file.name}", label)
            for label, name in enumerate(self._val.classes)
            for file in sorted((top / name).iterdir())
            if file.suffix.lower() in _ENDINGS
        ]
        if not listed:
            raise InputError(f"{shown(top)} has no images in its folders; unpack the archive again")
        return listed


def _corruption_folders(folder: Path) -> dict[str, Path]:
    """The folders of the corruptions, by name; ``extra`` corruptions of the archives take no part."""
    tops = [folder, *(folder / name for name in ARCHIVES if name != "extra")]
    found = [path for top in tops if top.is_dir() for path in sorted(top.iterdir())]
    return {path.name: path for path in found if (path / "1").is_dir()}


def _array(path: Path) -> NDArray[np.uint8]:
    try:
        open_file(path).close()  # refuses what would block
        read: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{shown(path)} cannot be read as a NumPy file ({error}); download it again") from error
    return read


def _parts(count: int, val: Source) -> Iterator[slice]:
    channels, height, width = val.shape
    step = max(1, _PART // (channels * height * width))
    return (slice(start, start + step) for start in range(0, count, step))


def _as_set(images: Sequence[Image.Image], labels: Tensor, val: Source) -> ImageSet:
    """Images at the size of the validation images; those of another size are resized with antialiasing."""
    _, height, width = val.shape
    same = [
        image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)
        for image in images
    ]
    rows = np.stack([np.asarray(image) for image in same]).reshape(len(same), height, width, -1)
    return ImageSet(
        torch.from_numpy(rows).permute(0, 3, 1, 2).contiguous(), labels, torch.arange(len(same)), val.classes
    )


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
