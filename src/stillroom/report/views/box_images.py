"""Example images of a detector: the boxes of the annotation, the teacher and the students side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from stillroom.boxes import Detections, ImageBoxes
from stillroom.formatting import counted
from stillroom.report.aggregate import Pair
from stillroom.report.charts import shortened
from stillroom.report.run_detections import detections_of, teacher_detections_of
from stillroom.report.views.data_uris import photo_uri
from stillroom.report.views.view_models import classes_of, first_runs, val_pixels
from stillroom.tasks.box_errors import judge_image
from stillroom.tasks.detections_file import StoredDetections

IMAGES = 8
LEAST_SCORE = 0.3  # of a detection that is drawn and counted
WORDS = {
    "classification": "wrong class", "localisation": "wrong place", "both": "wrong class and place",
    "duplicate": "duplicate", "background": "background",
}  # fmt: skip


@dataclass(frozen=True)
class DrawnBox:
    """One box on an image.

    Attributes:
        left: edge in pixels of the original image, as the next.
        top: edge.
        width: in these pixels, as the next.
        height: of the box.
        kind: "object", "correct", "wrong", "ignored" or "missed", which decides how it is drawn.
        label: the class, short.
        note: what it is, in words.
    """

    left: float
    top: float
    width: float
    height: float
    kind: str
    label: str
    note: str


@dataclass(frozen=True)
class Panel:
    """One image with the boxes of one network, or of the annotation.

    Attributes:
        name: of the network.
        boxes: in the order they are drawn.
        caption: what was found, in a sentence.
    """

    name: str
    boxes: tuple[DrawnBox, ...]
    caption: str


@dataclass(frozen=True)
class BoxImage:
    """One validation image.

    Attributes:
        place: in the validation set, from 0.
        image: a data URI.
        height: of the original image in pixels, as the next.
        width: of the original image.
        panels: the annotation, the teacher if there is one, and the students.
    """

    place: int
    image: str
    height: int
    width: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class BoxImages:
    """All chosen images.

    Attributes:
        images: the chosen ones.
        rule: how they were chosen, in a phrase.
        least_score: of a detection that is drawn and counted.
    """

    images: tuple[BoxImage, ...]
    rule: str
    least_score: float = LEAST_SCORE


def box_images_of(pair: Pair, count: int = IMAGES) -> BoxImages:
    """Choose images of a pair of detectors and draw what each network finds in them.

    Args:
        pair: its runs have their detections; of each method the run of its first seed counts.
        count: images to choose, at most.

    Raises:
        InputError: detections or images cannot be read, or the images are not those of the detections.
    """
    students = {method: _confident(detections_of(run)) for method, run in first_runs(pair).items()}
    teacher = next((one for one in (teacher_detections_of(cell.run) for cell in pair.cells) if one is not None), None)
    networks = ({} if teacher is None else {"teacher": _confident(teacher)}) | students
    compared, rule = (students, "the students") if len(students) > 1 else (networks, "teacher and student")
    if len(compared) > 1:
        rule = f"in which {rule} differ most"
        worth = {name: _hits(one) for name, one in compared.items()}
        spread = [max(values) - min(values) for values in zip(*worth.values(), strict=True)]
    else:
        rule = "in which the student does worst"
        (hits,) = (_hits(one) for one in compared.values())
        spread = [-value for value in hits]
    places = sorted(range(len(spread)), key=lambda place: -spread[place])[:count]
    objects, classes = next(iter(students.values())).objects, classes_of(pair)
    previews = val_pixels(pair, sorted(places))
    images = [
        _image(place, preview, objects[place], {name: one.found[place] for name, one in networks.items()}, classes)
        for place, preview in zip(sorted(places), previews, strict=True)
    ]
    return BoxImages(tuple(images), f"the {counted(len(images), 'image')} of {len(objects):,} {rule}")


def _confident(stored: StoredDetections) -> StoredDetections:
    """Only the detections that are drawn."""
    kept = []
    for found in stored.found:
        enough = found.scores >= LEAST_SCORE
        kept.append(Detections(found.boxes[enough], found.scores[enough], found.labels[enough]))
    return replace(stored, found=tuple(kept))


def _hits(stored: StoredDetections) -> list[int]:
    """For each image the number of objects that are found, minus the number of wrong detections."""
    worth = []
    for image, found in zip(stored.objects, stored.found, strict=True):
        kinds, _ = judge_image(image, found)
        worth.append(kinds.count("correct") - sum(kind in WORDS for kind in kinds))
    return worth


def _image(
    place: int, preview: Tensor, image: ImageBoxes, found: Mapping[str, Detections], classes: Sequence[str]
) -> BoxImage:
    height, width = image.size
    scale = max(preview.shape[-2:]) / max(height, width)  # the image is at the upper left of its preview
    whole = preview[:, : max(1, round(height * scale)), : max(1, round(width * scale))]
    panels = [_annotation(image, classes)]
    panels += [_panel(name, image, each, classes) for name, each in found.items()]
    return BoxImage(place, photo_uri(whole), height, width, tuple(panels))


def _annotation(image: ImageBoxes, classes: Sequence[str]) -> Panel:
    boxes = [
        _drawn(box, "ignored" if crowd else "object", classes[label], "a group, not judged" if crowd else "object")
        for box, label, crowd in zip(image.boxes, image.labels.tolist(), image.crowd.tolist(), strict=True)
    ]
    return Panel("annotation", tuple(boxes), counted(int((~image.crowd).sum()), "object"))


def _panel(name: str, image: ImageBoxes, found: Detections, classes: Sequence[str]) -> Panel:
    kinds, matched = judge_image(image, found)
    boxes = [
        _drawn(box, "missed", classes[label], "not found")
        for box, label, there in zip(image.boxes, image.labels.tolist(), matched, strict=True)
        if not there
    ]
    for box, label, score, kind in zip(found.boxes, found.labels.tolist(), found.scores.tolist(), kinds, strict=True):
        drawn = "wrong" if kind in WORDS else kind
        boxes.append(_drawn(box, drawn, classes[label], f"{WORDS.get(kind, kind)}, score {score:.2f}"))
    objects, wrong = int((~image.crowd).sum()), sum(kind in WORDS for kind in kinds)
    caption = f"{kinds.count('correct')} of {counted(objects, 'object')} found, {counted(wrong, 'wrong detection')}"
    return Panel(name, tuple(boxes), caption)


def _drawn(box: Tensor, kind: str, label: str, note: str) -> DrawnBox:
    left, top, right, bottom = (round(edge, 1) for edge in box.tolist())
    sides = round(right - left, 1), round(bottom - top, 1)
    return DrawnBox(left, top, *sides, kind, shortened(label, 14), f"{label}: {note}")
