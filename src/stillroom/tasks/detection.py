"""Detection: boxes with a class, the losses of a two-stage detector, COCO's average precision.

What is distilled is what the detector samples for its own training: its proposals, with the annotated boxes among them,
go through the region heads of student and teacher (as in the detection experiments of DKD and ReviewKD). Their logits
(R, K + 1) have a row for each proposal and background in column 0; the feature maps are the levels of the pyramid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.boxes import Detections, ImageBoxes
from stillroom.data.boxed_source import BoxedSource
from stillroom.data.boxed_view import rescaled_boxes
from stillroom.data.source import Source
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating
from stillroom.reading import UnreadableError
from stillroom.runtime.distributed import Group
from stillroom.scores import SCORES
from stillroom.tasks.average_precision import MOST, average_precision
from stillroom.tasks.detections_file import (
    StoredDetections,
    content_limit,
    detections_content,
    gather_detections,
    read_detections,
)
from stillroom.tasks.region_step import detect, proposal_logits, pyramid, train_pass
from stillroom.tasks.seeded_sampling import sampling_seeds
from stillroom.tasks.task import Batches, Predicts, Row

LOW_AP50 = 1.0  # percent; a detector below it has learned hardly anything
MAPS = ("features", "maps", "preact_maps")  # the names under which losses take the levels of the pyramid


FoundBoxes = tuple[Detections, ...]  # in the images of one process, in pixels of the original images


class Detection:
    """See :class:`stillroom.tasks.task.Task`. Logits have a row for each sampled proposal.

    Args:
        classes: number of classes without background.
    """

    name = "detection"
    score = SCORES["detection"]
    rows_are_images = False

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def student_output(
        self,
        student: nn.Module,
        reader: PartsReader | None,  # noqa: ARG002  the pyramid comes from the pass itself
        batch: Batch,
        place: tuple[int, int],
    ) -> Output:
        """Region logits (R, K + 1), the pyramid, the embedding (R, D), and the detector's own loss."""
        found = train_pass(student, batch.images, batch.targets, sampling_seeds(*place, batch.ids))
        parts = maps_of(found.pyramid) | {
            "embedding": found.embedding,
            "supervised": torch.stack(list(found.losses.values())).sum(),
            "proposals": found.proposals,
            "region_labels": found.labels,
        }
        return Output(found.logits, parts)

    def target(self, batch: Batch, student: Output) -> Tensor:  # noqa: ARG002
        """The labels of the proposals, 0 for background."""
        labels: Tensor = student.parts["region_labels"]
        return labels

    def on_same_rows(self, teacher: Output, student: Output) -> Output:
        """The teacher's region head on the student's proposals."""
        logits, embedding = teacher.parts["classify"](student.parts["proposals"])
        return Output(logits, {**{name: teacher.parts[name] for name in MAPS}, "embedding": embedding})

    def correct(self, student: Output, batch: Batch) -> Tensor:  # noqa: ARG002
        """Zero: an image is not classified."""
        return torch.zeros((), dtype=torch.long, device=student.logits.device)

    def forward(self, model: nn.Module, images: Tensor) -> object:
        """The detections in images of one size."""
        return detect(model, images, [(images.shape[-2], images.shape[-1])] * len(images))

    def predict(self, model: nn.Module, batches: Batches, autocast: AbstractContextManager[None]) -> FoundBoxes:
        """Detections in pixels of the original images."""
        found: list[Detections] = []
        with evaluating(model), torch.no_grad(), autocast:
            for batch in batches:
                made = detect(model, batch.images, [target.size for target in batch.targets])
                if batch.stand_in:  # computed all the same: a sharded pass needs all processes
                    continue
                found += [in_original(one, target) for one, target in zip(made, batch.targets, strict=True)]
        return tuple(found)

    def predict_teacher(self, teacher: Predicts, batches: Batches) -> FoundBoxes:
        """Detections of the teacher's network."""
        network: Any = teacher
        found: FoundBoxes = network.detections(self, batches)
        return found

    def evaluate(self, found: FoundBoxes, images: Source, group: Group) -> Row:
        """Average precision in percent, and the number of images."""
        whole = self.gathered(found, len(images), group)
        scores = average_precision(objects_of(images), whole, self.classes)
        return {**scores.numbers(), "count": len(images)}

    def agreement(self, found: FoundBoxes, teacher: FoundBoxes, group: Group) -> float | None:  # noqa: ARG002
        """None: detections of two models have no common rows."""
        return None

    def row(self, train_correct: float | None, scores: Mapping[str, Any] | None, same: float | None) -> Row:  # noqa: ARG002
        """Average precision on the validation images."""
        return {f"val_{name}": value for name, value in (scores or {}).items() if name != "count"}

    def teacher_notes(self, scores: Mapping[str, Any], classes: int) -> Sequence[str]:  # noqa: ARG002
        """Its average precision, and a warning if it finds hardly anything."""
        notes = [f"teacher: AP {scores['ap']:.2f}, AP50 {scores['ap50']:.2f} on {scores['count']:,} validation images"]
        if scores["ap50"] < LOW_AP50:
            notes.append("warning: the teacher finds hardly anything; check its weights, and the order of the classes")
        return notes

    def warning(self, rows: Sequence[Mapping[str, Any]], classes: int, lr: float) -> str:  # noqa: ARG002
        """Names an average precision near zero, and what to try."""
        if rows[-1].get("val_ap50", LOW_AP50) >= LOW_AP50:
            return ""
        return (
            f"AP50 ended at {rows[-1]['val_ap50']:.2f}; train for more epochs, from pretrained weights, or at another "
            f"learning rate than {lr:g}"
        )

    def gathered(self, found: FoundBoxes, count: int, group: Group) -> FoundBoxes:
        """The detections in all images."""
        return gather_detections(group, found, count)

    def file_content(self, images: Source, found: FoundBoxes) -> bytes:
        """See :mod:`stillroom.tasks.detections_file`."""
        return detections_content(StoredDetections(found, objects_of(images), images.ids))

    def file_size(self, images: Source, model: nn.Module) -> int:
        """As many detections in each image as the model keeps at most, and the annotated objects."""
        heads: Any = model.roi_heads
        most = getattr(heads, "detections_per_img", MOST)  # torchvision's name
        return content_limit(objects_of(images), most)

    def is_readable(self, path: Path, config: Mapping[str, Any]) -> bool:
        """Whether the file holds detections in the run's images."""
        with suppress(OSError, UnreadableError):
            read_detections(path, config["val_images"], len(config["classes"]))
            return True
        return False


def objects_of(images: Source) -> tuple[ImageBoxes, ...]:
    """The annotated objects of each image, in pixels of the original image."""
    assert isinstance(images, BoxedSource)
    return images.objects


def maps_of(levels: Mapping[str, Tensor]) -> dict[str, Any]:
    """The levels of a pyramid under the names that losses take."""
    maps = tuple(levels.values())
    return dict.fromkeys(MAPS, maps)


def teacher_output(model: nn.Module, images: Tensor) -> Output:
    """A teacher's pyramid, and its region head as a function of proposals, under "classify".

    Args:
        model: a detector in evaluation mode.
        images: float (B, 3, H, W), normalised and padded.
    """
    with torch.no_grad():
        levels = pyramid(model, images)

    def classify(proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        return proposal_logits(model, images, levels, proposals)

    return Output(images.new_zeros(0, 0), {**maps_of(levels), "classify": classify})


def in_original(found: Detections, target: ImageBoxes) -> Detections:
    """Detections in a resized image, in pixels of the original image, on the CPU.

    Args:
        found: in pixels of the resized image.
        target: of the resized image.
    """
    boxes = found.boxes.float().cpu()
    if target.original is not None:
        boxes = rescaled_boxes(boxes, target.size, target.original.size)
    return Detections(boxes, found.scores.float().cpu(), found.labels.cpu())
