"""List an image folder whose training images have no labels, with or without labelled validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stillroom.data.folder_scan import FolderScan
from stillroom.data.image_folder import VAL_NAMES, find_validation, from_files, list_classes, list_without_labels
from stillroom.data.listing import Listing
from stillroom.data.source import UNKNOWN

UNNAMED = ("unnamed-1", "unnamed-2")  # classes of a student whose classifier no loss trains


def list_unlabelled_folder(
    root: Path, depth: int = 1, classes: tuple[str, ...] | None = None
) -> tuple[Listing, Listing | None]:
    """List images without labels: those below ``train`` and ``unlabelled``, or below the folder itself.

    Class folders among them say nothing. Validation images are those below ``val`` (``validation``, ``valid``,
    ``test``). Where that folder has two or more class folders, its images have labels.

    Args:
        root: the folder.
        depth: how many levels below the validation folder its class folders are.
        classes: the names of the classes where the validation images have no labels.

    Returns:
        The training and the validation listing; the second is None if there is no validation folder. Problems, such
        as classes that nothing names, are in their ``problems``.
    """
    top = FolderScan(root, root)
    folders = top.class_folders()
    val_folder = find_validation(root)
    val = None if val_folder is None else _list_validation(val_folder, root, depth)
    if val is not None and val.classes:
        classes = val.classes
    train_folders = [folder for folder in folders if folder.name == "train"]
    loose = [] if train_folders else top.outside
    folders = train_folders or [folder for folder in folders if folder.name not in VAL_NAMES]
    found = list_without_labels(root, root, [*folders, *top.unlabelled], classes or ())
    names = [*found.names, *(file.relative_to(root).as_posix() for file in loose)]
    problems = [*found.problems]
    if classes is None:
        problems.append(
            f"labels=none: nothing names the classes of {root}; give a teacher whose classes are known, or put "
            f"validation images into class folders, like {root}/val/CLASS/IMAGE.png"
        )
    train = from_files(root, root, names, [UNKNOWN] * len(names), classes or (), problems)
    return train, None if val is None else replace(val, classes=classes or ())


def _list_validation(folder: Path, root: Path, depth: int) -> Listing:
    """The validation images: with labels if there are two or more class folders, else with no classes."""
    if len(FolderScan(folder, root).class_folders(depth)) > 1:
        return list_classes(folder, root, depth, training=False)
    return list_without_labels(folder, root, [folder], ())
