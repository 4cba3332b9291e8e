"""Read CIFAR-10 and CIFAR-100 from their published pickle files without running code in them."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from stillroom.data.image_set import ImageSet
from stillroom.errors import InputError, first_line


class _Array:
    """Replaces a numpy array in a pickle: keeps the state and calls nothing."""

    state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def pixels(self) -> NDArray[np.uint8]:
        """Return the images (n, 3, 32, 32), or raise ValueError."""
        _, shape, kind, column_first, raw = self.state
        if not isinstance(kind, _Kind) or kind.name.lstrip("|") != "u1":
            raise ValueError("no bytes")
        flat = np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype=np.uint8)
        return flat.reshape(shape, order="F" if column_first else "C").reshape(-1, 3, 32, 32)


class _Kind:
    """Replaces a numpy dtype in a pickle."""

    def __init__(self, name: str) -> None:
        self.name = str(name)

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and the like: only the type uint8 is accepted."""


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): lambda name, *_: _Kind(name),
    ("_codecs", "encode"): lambda text, _: str(text).encode("latin1"),  # how Python 3 writes bytes in old pickles
}


class _Reader(pickle.Unpickler):
    """Unpickler that makes plain values and the replacements above, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it holds {module}.{name}") from None


def load_cifar(kind: str, root: Path, download: bool) -> tuple[ImageSet, ImageSet]:
    """Load CIFAR-10 or CIFAR-100 from the "python version" of the published files.

    Args:
        kind: "CIFAR10" or "CIFAR100", the name of the class in torchvision.
        root: the folder that contains ``cifar-10-batches-py`` or ``cifar-100-python``, or where to download it to.
        download: whether to download files that are missing or damaged.

    Returns:
        The training and the test set.

    Raises:
        InputError: files are missing, are not the published ones, or contain something other than images and labels;
            no code in them is run.
    """
    from torchvision import datasets

    source = getattr(datasets, kind)
    meta = source.meta
    provide(source, root, (*source.train_list, *source.test_list, (meta["filename"], meta["md5"])), download)
    folder = root / source.base_folder
    classes = tuple(str(name) for name in _read(folder / meta["filename"], lambda held: list(held[meta["key"]])))
    train, test = (
        [_read(folder / name, _batch) for name, _ in files] for files in (source.train_list, source.test_list)
    )
    return _image_set(train, classes), _image_set(test, classes)


def provide(source: Any, root: Path, files: Sequence[Sequence[str]], download: bool) -> None:
    """Check the files of one of torchvision's sets against the published checksums, and download them if allowed.

    Args:
        source: the class in torchvision.
        root: the folder that contains its ``base_folder``, or where to download it to.
        files: name and checksum of each file.
        download: whether to download files that are missing or damaged.

    Raises:
        InputError: a file is missing or is not the published one.
    """
    from torchvision.datasets.utils import download_and_extract_archive

    folder = root / source.base_folder
    reason = _unsound(folder, files)
    if reason and download:
        try:
            download_and_extract_archive(source.url, str(root), filename=source.filename, md5=source.tgz_md5)
            reason = _unsound(folder, files)
        except (RuntimeError, OSError, EOFError, tarfile.TarError) as error:
            reason = f"{reason}; {first_line(error)}"
    if reason:
        raise InputError(
            f"{source.__name__} is not in {root} and was not downloaded ({reason}); "
            f"put the folder {source.base_folder} there, or set root to the folder that has it"
        )


def _unsound(folder: Path, files: Sequence[Sequence[str]]) -> str:
    """Return a message about the first file that is missing or differs from the published one, or an empty string."""
    from torchvision.datasets.utils import check_integrity

    for name, md5 in files:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if not check_integrity(str(path), md5):
            return f"{name} is damaged or another file"
    return ""


def _read(path: Path, take: Callable[[Any], Any]) -> Any:
    try:
        with path.open("rb") as file:
            return take(_unpickle(file))
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{path} was refused and nothing in it was run ({first_line(error)}); download the set again"
        ) from error


def _unpickle(file: IO[bytes]) -> Any:
    return _Reader(file, encoding="latin1").load()


def _batch(held: Any) -> tuple[NDArray[np.uint8], list[int]]:
    labels = held["labels"] if "labels" in held else held["fine_labels"]
    pixels = held["data"].pixels()
    if len(labels) != len(pixels) or not all(type(label) is int for label in labels):
        raise ValueError(f"{len(pixels)} images and {len(labels)} labels")
    return pixels, labels


def _image_set(batches: list[tuple[NDArray[np.uint8], list[int]]], classes: tuple[str, ...]) -> ImageSet:
    images = torch.from_numpy(np.concatenate([pixels for pixels, _ in batches]))
    labels = torch.tensor([label for _, own in batches for label in own])
    return ImageSet(images, labels, torch.arange(len(images)), classes)
