"""Find the class folders of a split and the image files in them; links are followed, cycles end."""

from __future__ import annotations

import os
from pathlib import Path

from stillroom.files import first_few
from stillroom.formatting import counted

IMAGES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"))

UNLABELLED = frozenset(("unlabelled", "unlabeled"))  # folders beside the class folders, for images without a label

_Identity = tuple[int, int]


class FolderScan:
    """Scan of the class folders of one split.

    A folder that is reached twice within a class counts once. A folder that is reached from two classes, or that
    contains the split, would give images a wrong label: this is a fault, as are broken links and folders that cannot be
    opened. Hidden folders and macOS's ``._`` files are ignored.

    Args:
        split: the folder that contains the class folders.
        root: the folder of the set; messages name paths relative to it.
    """

    def __init__(self, split: Path, root: Path) -> None:
        self.split, self.root = split, root
        real = split.resolve()
        self._seen: dict[_Identity, Path] = {_identity(folder): split for folder in (real, *real.parents)}
        self.outside: list[Path] = []
        self.unlabelled: list[Path] = []
        self._closed: list[str] = []
        self._nowhere: list[str] = []
        self._elsewhere: list[str] = []

    def class_folders(self, depth: int = 1) -> list[Path]:
        """Return the sorted folders ``depth`` levels below the split, without hidden ones.

        Images above that level, which are in no class folder, are added to ``outside``. The split's own folders named
        in :data:`UNLABELLED` are added to ``unlabelled``; they are no classes.
        """
        folders = [self.split]
        for _ in range(depth):
            at_top = folders == [self.split]
            below: list[Path] = []
            for folder in folders:
                found, files = self._entries(folder)
                below += [folder / name for name in found if not name.startswith(".")]
                self.outside += [folder / name for name in files]
            folders = below
            if at_top:
                self.unlabelled = [path for path in folders if path.name.lower() in UNLABELLED]
                folders = [path for path in folders if path not in self.unlabelled]
        return sorted(folders)

    def images(self, folder: Path) -> list[str]:
        """Return the names, relative to the root, of all files below a class folder that have an image suffix.

        They are sorted folder by folder, as paths are.
        """
        found: list[str] = []
        waiting, visited = [folder], set()
        while waiting:
            here = waiting.pop()
            identity = _identity(here)
            if identity in visited:
                continue
            visited.add(identity)
            if self._seen.setdefault(identity, folder) != folder:
                self._elsewhere.append(self._name(here))
                continue
            folders, files = self._entries(here)
            prefix = "" if here == self.root else f"{here.relative_to(self.root).as_posix()}/"
            found += [prefix + name for name in files]
            waiting += [here / name for name in folders if not name.startswith(".")]
            if not folders and not files and here != folder and _suffix(here.name) in IMAGES:
                found.append(prefix[:-1])  # an empty folder named like an image, as a failed download leaves it
        return found if len(visited) == 1 else sorted(found, key=lambda name: name.split("/"))

    def _entries(self, folder: Path) -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the files with an image suffix."""
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:  # a set has millions: no paths are made here
                    name = entry.name
                    if _is_folder(entry):
                        folders.append(name)
                        continue
                    suffix = _suffix(name)
                    if suffix in IMAGES:
                        if not name.startswith("._"):
                            files.append(name)
                    elif not suffix and entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110  never raises
                        self._nowhere.append(self._name(folder / name))
        except OSError as error:
            self._closed.append(f"{self._name(folder)} ({(error.strerror or type(error).__name__).lower()})")
        self._nowhere.sort()
        return sorted(folders), sorted(files)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix() if path != self.root else str(path)

    @property
    def faults(self) -> int:
        """Number of faults found so far."""
        return len(self._closed) + len(self._nowhere) + len(self._elsewhere)

    def problems(self) -> list[str]:
        """Return one message for each kind of fault."""
        told = (
            (self._closed, "folder", "that cannot be opened", "check that it is there and allowed"),
            (self._nowhere, "link", "leading nowhere", "repair or remove"),
            (self._elsewhere, "link", "to a folder above or of another class", "remove"),
        )
        return [
            f"{counted(len(names), kind)} {what}: {first_few(names)}; {fix}" for names, kind, what, fix in told if names
        ]


def _suffix(name: str) -> str:
    """Return what :attr:`pathlib.PurePath.suffix` does, in lower case."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # cyclic links
        return False


def _identity(path: Path) -> _Identity:
    try:
        found = path.stat()
    except OSError:
        return (-1, hash(path))
    return (found.st_dev, found.st_ino)
