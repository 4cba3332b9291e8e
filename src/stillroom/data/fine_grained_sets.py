"""Fine-grained sets in their published layout: birds, dogs, cars, aircraft, flowers, dishes, pets.

Each is listed with its published split; its test images are the validation images. Torchvision reads and downloads the
sets that it has. CUB-200-2011 and Stanford Dogs have readers of their own, and so do the tables of Oxford Pets, whose
images torchvision can only give decoded.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.data.image_folder import from_files
from stillroom.data.listing import Listing
from stillroom.data.matlab_file import read_matlab
from stillroom.errors import InputError, first_line
from stillroom.files import first_few, shown
from stillroom.reading import UnreadableError, read_text

_AGAIN = "unpack the set again"
Samples = Sequence[tuple[str, int]]  # the path of each image below the folder of the set, and its label


@dataclass(frozen=True, slots=True)
class FineGrainedSet:
    """A fine-grained set: where it is, how it is read, and how the user gets it.

    Attributes:
        folder: its folder in ``root``, as its archive or torchvision names it.
        needed: a file or folder in it by which it is recognised.
        read: lists the training images, the validation images and the class names of the folder.
        get: what to download and how to lay it out, for the message where it is missing.
        torchvision: the class of torchvision that downloads it; empty where none can.
    """

    folder: str
    needed: str
    read: Callable[[Path], tuple[Samples, Samples, Sequence[str]]]
    get: str
    torchvision: str = ""


def list_fine_grained(name: str, root: Path, download: bool) -> tuple[Path, Listing, Listing]:
    """List a fine-grained set; none of its images is decoded.

    Args:
        name: a key of :data:`FINE_GRAINED`.
        root: the folder that has the set's own folder, or that folder itself.
        download: whether a missing set may be downloaded, where torchvision can.

    Returns:
        The set's folder, the training listing and the validation listing.

    Raises:
        InputError: the set is missing and was not downloaded, or a table of it cannot be read.
    """
    known = FINE_GRAINED[name]
    folder = _find(name, known, root, download)
    try:
        train, val, classes = known.read(folder)
    except InputError:
        raise
    except OSError as error:
        where = shown(getattr(error, "filename", None) or folder)
        raise InputError(
            f"{name}: {where} cannot be read ({error.strerror or type(error).__name__}); {_AGAIN}"
        ) from None
    except Exception as error:  # a damaged table can make a reader raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{name}: a table in {shown(folder)} is damaged ({reason}); {_AGAIN}") from error
    listings = [
        _listing(name, folder, split, samples, tuple(classes))
        for split, samples in (("training", train), ("test", val))
    ]
    return folder, listings[0], listings[1]


def _find(name: str, known: FineGrainedSet, root: Path, download: bool) -> Path:
    """The folder of a set, which is downloaded where that is possible."""
    folder = root / known.folder
    if not known.torchvision and (root / known.needed).exists():
        return root
    if (folder / known.needed).exists():
        return folder
    reason = ""
    if download and known.torchvision:
        from torchvision import datasets

        try:
            getattr(datasets, known.torchvision)(
                str(root), split="test", download=True
            )  # all splits are in one archive
            return folder
        except (RuntimeError, OSError, EOFError, ValueError, tarfile.TarError) as error:
            reason = f" and could not be downloaded ({first_line(error)})"
    raise InputError(f"{name} is not in {shown(folder)}{reason}; {known.get}, or set root to the folder that has it")


def _listing(name: str, folder: Path, split: str, samples: Samples, classes: tuple[str, ...]) -> Listing:
    """The listing of one split, with the problems of its table."""
    problems = []
    outside = [str(label) for _, label in samples if not 0 <= label < len(classes)]
    if outside:
        problems.append(f"{name}: the {split} images have labels without a class ({first_few(outside)}); {_AGAIN}")
    missing = [path for path, _ in samples if not (folder / path).is_file()]
    if missing:
        problems.append(
            f"{name}: {len(missing):,} of {len(samples):,} {split} images are missing ({first_few(missing)}); {_AGAIN}"
        )
    return from_files(folder, folder, [path for path, _ in samples], [label for _, label in samples], classes, problems)


def _table(path: Path) -> list[list[str]]:
    """The words of each line of a text file; a word at most is split off at the first space."""
    try:
        return [line.split(" ", 1) for line in read_text(path).splitlines() if line.strip()]
    except UnreadableError as error:
        raise InputError(f"{error}; {_AGAIN}") from None


def _read_cub200(folder: Path) -> tuple[Samples, Samples, Sequence[str]]:
    """Read the four tables; their lines begin with the number of an image or of a class."""
    tables = ("images", "image_class_labels", "train_test_split", "classes")
    images, labels, split, classes = (dict(_table(folder / f"{table}.txt")) for table in tables)
    if not images.keys() == labels.keys() == split.keys():
        raise InputError(
            f"cub200: images.txt, image_class_labels.txt and train_test_split.txt of {shown(folder)} have "
            f"{len(images):,}, {len(labels):,} and {len(split):,} images; {_AGAIN}"
        )
    numbers = {number: place for place, number in enumerate(classes)}
    parts: dict[str, list[tuple[str, int]]] = {"1": [], "0": []}
    for image, path in images.items():
        parts[split[image]].append((f"images/{path}", numbers[labels[image]]))
    return parts["1"], parts["0"], [name.partition(".")[2].replace("_", " ") for name in classes.values()]


def _read_dogs(folder: Path) -> tuple[Samples, Samples, Sequence[str]]:
    """Read ``train_list.mat`` and ``test_list.mat``: paths below ``Images`` and labels from 1."""
    classes: dict[int, str] = {}
    parts: list[list[tuple[str, int]]] = []
    for split in ("train", "test"):
        table = read_matlab(folder / f"{split}_list.mat")
        pairs = [(str(path), int(label) - 1) for path, label in zip(table["file_list"], table["labels"], strict=True)]
        parts.append([(f"Images/{path}", label) for path, label in pairs])
        classes |= {label: path.partition("/")[0].replace("-", " ", 1).replace("_", " ") for path, label in pairs}
    return parts[0], parts[1], [classes[label] for label in range(len(classes))]


def _read_pets(folder: Path) -> tuple[Samples, Samples, Sequence[str]]:
    """Read ``annotations/trainval.txt`` and ``test.txt``: name of the image, class from 1, and more."""
    classes: dict[int, str] = {}
    parts: list[list[tuple[str, int]]] = []
    for split in ("trainval", "test"):
        rows = [(name, int(rest.split()[0]) - 1) for name, rest in _table(folder / "annotations" / f"{split}.txt")]
        parts.append([(f"images/{name}.jpg", label) for name, label in rows])
        classes |= {label: name.rpartition("_")[0].replace("_", " ") for name, label in rows}
    return parts[0], parts[1], [classes[label] for label in range(len(classes))]


def _of_torchvision(
    kind: str, train: Sequence[str], test: str
) -> Callable[[Path], tuple[Samples, Samples, Sequence[str]]]:
    """A reader by a class of torchvision, which gives paths because its images are not opened."""

    def read(folder: Path) -> tuple[Samples, Samples, Sequence[str]]:
        from torchvision import datasets

        def opened(split: str) -> Any:
            return getattr(datasets, kind)(str(folder.parent), split=split, loader=Path)

        def samples(*splits: Any) -> Samples:
            pairs = (split[place] for split in splits for place in range(len(split)))
            return [(path.relative_to(folder).as_posix(), int(label)) for path, label in pairs]

        last = opened(test)
        return samples(*map(opened, train)), samples(last), last.classes

    return read


FINE_GRAINED = {
    "cub200": FineGrainedSet(
        "CUB_200_2011",
        "images.txt",
        _read_cub200,
        "unpack CUB_200_2011.tgz of https://data.caltech.edu/records/65de6-vp158 there (images/, images.txt, "
        "image_class_labels.txt, train_test_split.txt, classes.txt)",
    ),
    "stanford-dogs": FineGrainedSet(
        "stanford-dogs",
        "train_list.mat",
        _read_dogs,
        "unpack images.tar and lists.tar of http://vision.stanford.edu/aditya86/ImageNetDogs there (Images/BREED/, "
        "train_list.mat, test_list.mat)",
    ),
    "stanford-cars": FineGrainedSet(
        "stanford_cars",
        "devkit",
        _of_torchvision("StanfordCars", ["train"], "test"),
        "its own site is gone, so get a copy, such as Kaggle's, and lay it out as torchvision's StanfordCars "
        "(cars_train/, cars_test/, cars_test_annos_withlabels.mat, devkit/cars_train_annos.mat, devkit/cars_meta.mat)",
    ),
    "fgvc-aircraft": FineGrainedSet(
        "fgvc-aircraft-2013b",
        "data",
        _of_torchvision("FGVCAircraft", ["trainval"], "test"),
        "unpack fgvc-aircraft-2013b.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft in root "
        "(data/images/, data/variants.txt, data/images_variant_trainval.txt, data/images_variant_test.txt)",
        "FGVCAircraft",
    ),
    "flowers102": FineGrainedSet(
        "flowers-102",
        "setid.mat",
        _of_torchvision("Flowers102", ["train", "val"], "test"),
        "put 102flowers.tgz, unpacked, imagelabels.mat and setid.mat of "
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102 there (jpg/, imagelabels.mat, setid.mat)",
        "Flowers102",
    ),
    "food101": FineGrainedSet(
        "food-101",
        "meta",
        _of_torchvision("Food101", ["train"], "test"),
        "unpack food-101.tar.gz of https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101 in root (images/CLASS/, "
        "meta/train.json, meta/test.json)",
        "Food101",
    ),
    "oxford-pets": FineGrainedSet(
        "oxford-iiit-pet",
        "annotations",
        _read_pets,
        "unpack images.tar.gz and annotations.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/pets there (images/, "
        "annotations/trainval.txt, annotations/test.txt)",
        "OxfordIIITPet",
    ),
}  # fmt: skip
