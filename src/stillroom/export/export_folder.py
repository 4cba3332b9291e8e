"""The folder of an export. Only an earlier export of the same student is ever replaced."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from stillroom.errors import InputError
from stillroom.export.exported_model import read_export_config
from stillroom.files import is_temporary, write_atomically

# In this order: config.json marks the folder as ours; the card, which describes all files, comes last.
NAMES = ("config.json", "model.safetensors", "model.onnx", "model-int8.onnx", "latency.json", "README.md")


def refuse_other_files(folder: Path, weights: str | None = None) -> None:
    """Refuse a folder that holds anything but an export of the same student.

    Args:
        folder: where the export goes.
        weights: those of the student; None accepts any.

    Raises:
        InputError: nothing is overwritten.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"out={folder} is a file; give a folder")
    config = read_export_config(folder)
    if config is None:
        others = [entry.name for entry in folder.iterdir() if not is_temporary(entry.name)]
        if others:
            raise InputError(
                f"out={folder} holds other files ({', '.join(sorted(others)[:3])}); nothing is overwritten, give a new "
                "folder"
            )
    elif weights is not None and config["weights"] != weights:
        raise InputError(
            f"out={folder} holds the export of a student with other weights ({config['made_from']}); nothing is "
            "overwritten, give another folder or remove it"
        )


def install_files(made: Path, folder: Path) -> tuple[Path, ...]:
    """Move finished files to their folder, each in one step; other files of an earlier export are removed.

    Where the folder is new and something fails, nothing stays.

    Args:
        made: a folder with some of :data:`NAMES`.
        folder: where they go.

    Returns:
        The files in their place.

    Raises:
        InputError: they cannot be written, as on a full disk.
    """
    new = read_export_config(folder) is None if folder.exists() else True
    existed = folder.exists()
    names = [name for name in NAMES if (made / name).exists()]
    try:
        for name in names:
            write_atomically(folder / name, lambda aside, name=name: shutil.copyfile(made / name, aside))  # type: ignore[misc]
    except BaseException as error:
        if new:
            _clear(folder, names, existed)
        if isinstance(error, OSError):
            raise InputError(f"out={folder} cannot be written ({error.strerror}); give another folder") from error
        raise
    for name in NAMES:
        if name not in names:
            (folder / name).unlink(missing_ok=True)
    return tuple(folder / name for name in names)


def _clear(folder: Path, names: Sequence[str], existed: bool) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
    if not existed and folder.exists():
        folder.rmdir()
