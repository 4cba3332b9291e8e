"""Stored detections: what a detector finds in a validation set, with the objects to evaluate it again, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from stillroom.boxes import Detections, ImageBoxes
from stillroom.models.weight_files import read_safetensors
from stillroom.reading import UnreadableError
from stillroom.runtime.distributed import Group

FORMAT = "detections-1"
HEADER = 2000  # bytes of names, shapes and places at the beginning, at most
# Tensor -> dtype, and its shape with N images, M detections and G objects.
LAYOUT: dict[str, tuple[torch.dtype, tuple[str | int, ...]]] = {
    "boxes": (torch.float32, ("M", 4)),
    "scores": (torch.float32, ("M",)),
    "labels": (torch.int64, ("M",)),
    "counts": (torch.int64, ("N",)),
    "ids": (torch.int64, ("N",)),
    "object_boxes": (torch.float32, ("G", 4)),
    "object_labels": (torch.int64, ("G",)),
    "object_crowd": (torch.bool, ("G",)),
    "object_counts": (torch.int64, ("N",)),
    "sizes": (torch.int64, ("N", 2)),
}


@dataclass(frozen=True)
class StoredDetections:
    """A detector's detections in every validation image, in the data set's order, on the CPU.

    Attributes:
        found: of N images, in pixels of the original images.
        objects: the annotated objects of the same images.
        ids: (N,), int64, the sample ids.
    """

    found: tuple[Detections, ...]
    objects: tuple[ImageBoxes, ...]
    ids: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file, see :data:`LAYOUT`."""
        tensors = {
            **_joined(self.found),
            "ids": self.ids,
            "object_boxes": torch.cat([image.boxes for image in self.objects]),
            "object_labels": torch.cat([image.labels for image in self.objects]),
            "object_crowd": torch.cat([image.crowd for image in self.objects]),
            "object_counts": torch.tensor([len(image) for image in self.objects]),
            "sizes": torch.tensor([image.size for image in self.objects]),
        }
        return {name: tensors[name].detach().cpu().to(dtype).contiguous() for name, (dtype, _) in LAYOUT.items()}


def gather_detections(group: Group, own: Sequence[Detections], count: int) -> tuple[Detections, ...]:
    """The detections of all images, in the set's order, on the CPU; every process has to call this.

    Args:
        group: the processes of the run. Process r holds the images r, r + processes, r + 2 * processes, ...
        own: the detections in this process's images, in their order. Stand-ins at the end are dropped.
        count: number of images of the whole set; none is counted twice.
    """
    parts = [_separate(part) for part in group.from_all(_joined(own))]
    return tuple(parts[place % len(parts)][place // len(parts)] for place in range(count))


def detections_content(stored: StoredDetections) -> bytes:
    """The content of a safetensors file with the detections and objects."""
    from safetensors.torch import save

    return save(stored.tensors(), {"format": FORMAT})


def content_limit(objects: Sequence[ImageBoxes], most: int) -> int:
    """The bytes of such a file at most.

    Args:
        objects: the annotated objects of each image.
        most: number of detections that a model keeps in an image.
    """
    lengths = {"N": len(objects), "M": most * len(objects), "G": sum(map(len, objects))}
    return HEADER + sum(
        dtype.itemsize * prod(lengths[letter] if isinstance(letter, str) else letter for letter in letters)
        for dtype, letters in LAYOUT.values()
    )


def read_detections(path: Path, images: int, classes: int) -> StoredDetections:
    """Read what :func:`detections_content` gave.

    Args:
        path: the file.
        images: number of validation images that it has to have.
        classes: number of classes without background.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is damaged, of another kind, or does not fit; the message names what is wrong.
    """
    tensors, facts = read_safetensors(path)
    if facts.get("format") != FORMAT:
        raise UnreadableError(path, f"its format is {str(facts.get('format'))[:40]}, not {FORMAT}")
    if wrong := _misfit(tensors, images, classes):
        raise UnreadableError(path, wrong)
    counts = tensors["object_counts"].tolist()
    boxes, labels, crowd = (torch.split(tensors[f"object_{name}"], counts) for name in ("boxes", "labels", "crowd"))
    sizes = [(height, width) for height, width in tensors["sizes"].tolist()]
    objects = tuple(map(ImageBoxes, boxes, labels, crowd, sizes))
    return StoredDetections(_separate(tensors), objects, tensors["ids"])


def _joined(found: Sequence[Detections]) -> dict[str, Tensor]:
    """The detections of all images in three tensors on the CPU, and their number in each image."""
    return {
        "boxes": torch.cat([torch.zeros(0, 4), *(image.boxes.detach().cpu() for image in found)]),
        "scores": torch.cat([torch.zeros(0), *(image.scores.detach().cpu() for image in found)]),
        "labels": torch.cat([torch.zeros(0, dtype=torch.int64), *(image.labels.cpu() for image in found)]),
        "counts": torch.tensor([len(image) for image in found], dtype=torch.int64),
    }


def _separate(joined: dict[str, Tensor]) -> tuple[Detections, ...]:
    counts = joined["counts"].tolist()
    boxes, scores, labels = (torch.split(joined[name], counts) for name in ("boxes", "scores", "labels"))
    return tuple(map(Detections, boxes, scores, labels))


def _misfit(tensors: dict[str, Tensor], images: int, classes: int) -> str:
    """Why the tensors are not those of so many images and classes; empty if they are."""
    numbers = {name: len(tensors[place]) if place in tensors and tensors[place].dim() else 0
               for name, place in (("M", "scores"), ("G", "object_labels"))}  # fmt: skip
    numbers["N"] = images
    for name, (dtype, letters) in LAYOUT.items():
        shape = tuple(numbers.get(str(letter), letter) for letter in letters)
        found = tensors.get(name)
        if found is None or found.dtype is not dtype or tuple(found.shape) != shape:
            return f"it has no {name} of {dtype} and shape {shape}"
    return _wrong_objects(tensors, classes) or _wrong_detections(tensors, classes)


def _wrong_objects(tensors: dict[str, Tensor], classes: int) -> str:
    ids, sizes = tensors["ids"], tensors["sizes"]
    if len(set(ids.tolist())) != len(ids):
        return "its ids name an image twice"
    if bool((sizes <= 0).any()):
        return "its sizes are not positive"
    return _wrong_rows(tensors, "object_", classes)


def _wrong_detections(tensors: dict[str, Tensor], classes: int) -> str:
    scores, counts = tensors["scores"], tensors["counts"]
    if wrong := _wrong_rows(tensors, "", classes):
        return wrong
    if not bool(((scores >= 0) & (scores <= 1)).all()):  # NaN, too
        return "its scores are not in [0, 1]"
    image = torch.repeat_interleave(torch.arange(len(counts)), counts)
    if bool(((scores[1:] > scores[:-1]) & (image[1:] == image[:-1])).any()):
        return "its scores are not in descending order"
    return ""


def _wrong_rows(tensors: dict[str, Tensor], kind: str, classes: int) -> str:
    """What is wrong with the counts, labels or boxes of objects or detections."""
    boxes, labels, counts = (tensors[f"{kind}{name}"] for name in ("boxes", "labels", "counts"))
    each = bool(((counts >= 0) & (counts <= len(labels))).all())  # before the sum, which could overflow
    if not each or int(counts.sum()) != len(labels):
        return f"its {kind}counts do not add up to {len(labels)}"
    if bool(((labels < 0) | (labels >= classes)).any()):
        return f"its {kind}labels are not those of {classes} classes"
    if not bool(boxes.isfinite().all()) or bool((boxes[:, 2:] < boxes[:, :2]).any()):
        return f"its {kind}boxes are not finite with left <= right and top <= bottom"
    return ""
