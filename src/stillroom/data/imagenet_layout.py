"""List the images of ImageNet in its own layout: training folders by synset, one flat folder of validation images.

The ground truth of the validation images is in a file of its own, in one of three forms.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.data.folder_scan import FolderScan
from stillroom.data.image_folder import from_files, list_classes
from stillroom.data.listing import Listing
from stillroom.data.matlab_file import read_matlab
from stillroom.data.source import UNKNOWN
from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.formatting import counted
from stillroom.reading import UnreadableError, read_text

KAGGLE = "LOC_val_solution.csv"
SYNSET_LINES = "imagenet_2012_validation_synset_labels.txt"
DEVKIT = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
_KIT_AGAIN = "unpack the kit again"

_MAPPINGS = ("LOC_synset_mapping.txt", "words.txt")
_DEEPER = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")
_TABLES = ("", "devkit", "devkit/data", "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12/data")
_VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.(?:JPEG|jpeg|jpg)")
_SYNSET = re.compile(r"n\d{8}")


class _Truth(NamedTuple):
    """The ground truth: by the stem of an image the line and its synset, and class names where it has some."""

    path: Path
    lines: dict[str, tuple[int, str]]
    names: dict[str, str]
    twice: Sequence[str] = ()


def find_imagenet(root: Path) -> Path | None:
    """Return the folder that holds ``train`` and the flat ``val``; None if the layout is another one."""
    for base in (root / deeper for deeper in _DEEPER):
        val = base / "val"
        if (base / "train").is_dir() and val.is_dir():
            first = [path for path in islice(val.iterdir(), 20) if not path.name.startswith(".")]
            flat = first and not any(path.is_dir() for path in first)
            if flat and any(_VAL_IMAGE.fullmatch(path.name) for path in first):
                return base
    return None


def has_synsets(root: Path) -> bool:
    """Whether a folder, or the one that Kaggle's archive has below it, has training folders named by synset."""
    train = [root / deeper / "train" for deeper in _DEEPER]
    return any(_SYNSET.fullmatch(path.name) for folder in train if folder.is_dir() for path in folder.iterdir())


def list_imagenet(root: Path, base: Path) -> tuple[Listing, Listing]:
    """List ``train/<synset>`` and ``val/ILSVRC2012_val_*.JPEG`` with the ground truth.

    Labels follow the sorted synsets, as in published work. Classes are called as in "n01440764 tench" where a file maps
    synsets to words.

    Args:
        root: the folder of the set.
        base: what :func:`find_imagenet` returned for it.

    Returns:
        The training and the validation listing; problems with folders and the ground truth are in their ``problems``.

    Raises:
        InputError: there is no ground truth, or it cannot be read.
    """
    train = list_classes(base / "train", root)
    truth = _read_truth(root, base)
    words = truth.names or _mapping(root, base)
    classes = tuple(f"{synset} {words[synset]}" if synset in words else synset for synset in train.classes)
    val = _validation(root, base, truth, train.classes)
    return replace(train, classes=classes), replace(val, classes=classes)


def _validation(root: Path, base: Path, truth: _Truth, synsets: tuple[str, ...]) -> Listing:
    folder = base / "val"
    scan = FolderScan(folder, root)
    files = scan.images(folder)
    label_of = {synset: label for label, synset in enumerate(synsets)}
    stems = [Path(name).stem for name in files]
    labels = [label_of.get(truth.lines.get(stem, (0, ""))[1], UNKNOWN) for stem in stems]
    without = [Path(name).name for name, stem in zip(files, stems, strict=True) if stem not in truth.lines]
    there = set(stems)
    gone = [stem for stem in truth.lines if stem not in there]
    unknown = [f"line {line}: {synset}" for line, synset in truth.lines.values() if synset not in label_of]
    table = shown(truth.path)
    told = (
        (truth.twice, f"{counted(len(truth.twice), 'image')} with more than one line"),
        (unknown, f"{counted(len(unknown), 'line')} with a synset that has no folder in {shown(base / 'train')}"),
        (without, f"{counted(len(without), 'image')} of {shown(folder)} without a line"),
        (gone, f"{counted(len(gone), 'line')} without an image in {shown(folder)}"),
    )
    faults = [f"{what} ({first_few(names)})" for names, what in told if names]
    problems = scan.problems()
    if faults:
        problems.append(
            f"{table} does not fit the images: {len(truth.lines):,} lines, {len(files):,} images; {', '.join(faults)}; "
            "use the file of these images, and unpack the set again"
        )
    return from_files(folder, root, files, labels, synsets, problems)


def _read_truth(root: Path, base: Path) -> _Truth:
    """Read the first ground truth that is there."""
    for name, read in ((KAGGLE, _kaggle), (SYNSET_LINES, _synset_lines), (DEVKIT, _devkit)):
        path = _find(root, base, name)
        if path is not None:
            return read(path)
    raise InputError(
        f"{shown(base / 'val')} has images beside each other and no file says their classes; put {KAGGLE} (Kaggle), "
        f"{SYNSET_LINES} (one synset a line), or {DEVKIT} with {META} (the development kit) into {shown(root)}"
    )


def _find(root: Path, base: Path, name: str) -> Path | None:
    folders = (place / table for place in dict.fromkeys((root, base)) for table in _TABLES)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _kaggle(path: Path) -> _Truth:
    """Read lines like "ILSVRC2012_val_00000001,n01751748 111 108 230 366": the first word is the class."""
    lines: dict[str, tuple[int, str]] = {}
    twice: list[str] = []
    for number, row in enumerate(csv.reader(_lines(path)), start=1):
        name, text = (*row, "", "")[:2]
        if number == 1 and name == "ImageId":
            continue
        synset = (text.split() or [shown(",".join(row), 40)])[0]
        if name in lines:
            twice.append(name)
        lines.setdefault(name, (number, synset))
    return _Truth(path, lines, {}, twice)


def _synset_lines(path: Path) -> _Truth:
    return _Truth(path, dict(_numbered(_lines(path))), {})


def _devkit(path: Path) -> _Truth:
    meta = path.with_name(META)
    if not meta.is_file():
        raise InputError(f"{shown(path)} has numbers for classes; put {META} of the development kit beside it")
    synsets, names = _read_meta(meta)
    lines = [synsets.get(line.strip(), f"number {line.strip()!r}") for line in _lines(path)]
    return _Truth(path, dict(_numbered(lines)), names)


def _numbered(lines: Sequence[str]) -> Iterator[tuple[str, tuple[int, str]]]:
    """Give line n to image n: a line that is empty counts, so no label moves to the next image."""
    for number, line in enumerate(lines, start=1):
        yield f"ILSVRC2012_val_{number:08}", (number, line.strip())


def _read_meta(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the synset of each number, and the words of each synset, of ImageNet's Matlab table."""
    found = read_matlab(path, f"put {KAGGLE} or {SYNSET_LINES} beside it", _KIT_AGAIN)
    try:
        rows: Any = found["synsets"]
        numbers, synsets, words = (rows[name].tolist() for name in ("ILSVRC2012_ID", "WNID", "words"))
        numbers = [str(int(number)) for number in numbers]
    except Exception as error:  # noqa: BLE001  another table than ImageNet's
        raise InputError(f"{shown(path)} cannot be read ({type(error).__name__}); {_KIT_AGAIN}") from None
    names = {str(synset): _first_word(str(word)) for synset, word in zip(synsets, words, strict=True)}
    return dict(zip(numbers, map(str, synsets), strict=True)), names


def _mapping(root: Path, base: Path) -> dict[str, str]:
    """Return the first word of each synset, where a file has them."""
    path = next((found for name in _MAPPINGS if (found := _find(root, base, name)) is not None), None)
    if path is None:
        return {}
    pairs = (re.split(r"[\t ]", line, maxsplit=1) for line in _lines(path))
    return {pair[0]: _first_word(pair[1]) for pair in pairs if len(pair) == 2 and _SYNSET.fullmatch(pair[0])}


def _first_word(words: str) -> str:
    return words.split(",")[0].strip()


def _lines(path: Path) -> list[str]:
    try:
        return read_text(path).rstrip().splitlines()
    except (OSError, UnreadableError) as error:
        raise InputError(f"{shown(path)} cannot be read ({type(error).__name__}); unpack the set again") from None
