"""List the images of Tiny-ImageNet in the layout of Stanford's archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stillroom.data.folder_scan import FolderScan
from stillroom.data.image_folder import from_files, list_classes
from stillroom.data.listing import Listing
from stillroom.errors import InputError
from stillroom.files import first_few
from stillroom.formatting import counted
from stillroom.reading import UnreadableError, read_text


def is_tiny_imagenet(root: Path) -> bool:
    """Whether the folder has the layout of Stanford's archive."""
    return (root / "wnids.txt").is_file() and (root / "val" / "val_annotations.txt").is_file()


def list_tiny_imagenet(root: Path) -> tuple[Listing, Listing]:
    """List ``train/<id>/images``, and ``val/images`` with its table of labels.

    Labels follow the sorted WordNet ids, as in published work; ``wnids.txt`` is not sorted.

    Args:
        root: the folder ``tiny-imagenet-200``.

    Returns:
        The training and the validation listing; problems with folders and tables are in their ``problems``.

    Raises:
        InputError: a table cannot be read as text.
    """
    wnids = tuple(sorted(_lines(root / "wnids.txt", split=True)))
    train = list_classes(root / "train", root)
    problems: list[str] = []
    if train.classes != wnids:
        differ = sorted(set(train.classes) ^ set(wnids)) or [name for name, n in Counter(wnids).items() if n > 1]
        problems.append(f"{root}: train folders and wnids.txt differ in {first_few(differ)}; unpack it again")
    classes = _readable_names(root, wnids)
    val = _validation(root, classes, {wnid: label for label, wnid in enumerate(wnids)})
    return replace(train, classes=classes, problems=(*train.problems, *problems)), val


def _lines(path: Path, split: bool = False) -> Sequence[str]:
    try:
        text = read_text(path)
    except (OSError, UnreadableError) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}); unpack the set again") from None
    return text.split() if split else text.splitlines()


def _validation(root: Path, classes: tuple[str, ...], place: dict[str, int]) -> Listing:
    table = root / "val" / "val_annotations.txt"
    folder = root / "val" / "images"
    files: list[str] = []
    labels: list[int] = []
    wrong: list[str] = []
    for number, line in enumerate(_lines(table), start=1):
        name, wnid = (*line.split("\t"), "", "")[:2]
        if wnid not in place or Path(name).name != name:
            wrong.append(str(number))
            continue
        files.append(f"val/images/{name}")
        labels.append(place[wnid])
    problems = []
    if wrong:
        problems.append(
            f"{counted(len(wrong), 'line')} of {table} without an image and a known class (line {first_few(wrong)}); "
            "unpack the set again"
        )
    twice = [Path(name).name for name, times in Counter(files).items() if times > 1]
    if twice:
        problems.append(f"{table} names images twice: {first_few(twice)}; unpack the set again")
    if not wrong:
        problems += _unlabelled(folder, root, files, table)
    return from_files(root / "val", root, files, labels, classes, problems)


def _unlabelled(folder: Path, root: Path, files: Sequence[str], table: Path) -> list[str]:
    left = sorted(set(FolderScan(folder, root).images(folder) if folder.is_dir() else ()) - set(files))
    if not left:
        return []
    names = first_few([Path(name).name for name in left])
    return [f"{counted(len(left), 'image')} of {folder} without a line in {table.name}: {names}; unpack the set again"]


def _readable_names(root: Path, wnids: tuple[str, ...]) -> tuple[str, ...]:
    """Add the first word of each class if there is a ``words.txt``."""
    words = root / "words.txt"
    if not words.is_file():
        return wnids
    spoken = dict(line.split("\t", 1) for line in _lines(words) if "\t" in line)
    return tuple(f"{wnid} {spoken[wnid].split(',')[0].strip()}" if wnid in spoken else wnid for wnid in wnids)
