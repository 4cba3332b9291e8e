"""A training step of a detector with distillation, beside one without, and beside a plainly written loop.

    python -m benchmarks detection_step

The plain loop calls torchvision's detector for its losses, then runs the student's region head a second time on the
proposals that it sampled, and the teacher's on the same. The networks are not trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import compare, make_parser, print_header, print_table
from stillroom.batch import Batch
from stillroom.boxes import ImageBoxes
from stillroom.methods import Method, parse_method
from stillroom.methods.connect import connect_outputs
from stillroom.models.demo_detectors import large_detector, small_detector
from stillroom.tasks.detection import Detection, teacher_output

CLASSES, OBJECTS, SIDE = 16, 5, 128
METHODS = {"labels only": "ce", "kd": "kd", "ldrld": "ldrld", "ldrld + at": "ldrld + at"}
PLAIN = "plain loop, kd"


def main(arguments: list[str]) -> None:
    parser = make_parser("detection_step", __doc__, rounds=15, threads=1)
    parser.add_argument("--batch_size", type=int, default=16)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print_header(f"Detection: large to small demo detector, {SIDE} pixels, batch {options.batch_size}, float32")
    calls = steps(options.batch_size)
    found = compare(calls, rounds=options.rounds)
    rows = []
    for name in calls:
        ratios = (found.ratio(name, other).text() for other in ("labels only", PLAIN))
        rows.append([name, f"{1e3 * found.median(name):.0f}", *ratios])
    print_table(["step", "milliseconds, median", "times labels only (quartiles)", f"times {PLAIN} (quartiles)"], rows)


def steps(batch_size: int, device: torch.device | str = "cpu") -> dict[str, Callable[[], None]]:
    """A step of each kind on the same batch."""
    batch = _batch(batch_size, torch.device(device))
    return {**{name: _ours(text, batch) for name, text in METHODS.items()}, PLAIN: _plain(batch)}


def _batch(size: int, device: torch.device) -> Batch:
    """Random images with random boxes."""
    generator = torch.Generator().manual_seed(0)
    targets = []
    for _ in range(size):
        corner = torch.randint(0, SIDE - 40, (OBJECTS, 2), generator=generator).float()
        boxes = torch.cat((corner, corner + torch.randint(10, 40, (OBJECTS, 2), generator=generator)), 1)
        labels = torch.randint(0, CLASSES, (OBJECTS,), generator=generator)
        crowd = torch.zeros(OBJECTS, dtype=torch.bool)
        targets.append(ImageBoxes(boxes.to(device), labels.to(device), crowd.to(device), (SIDE, SIDE)))
    images = torch.randn(size, 3, SIDE, SIDE, generator=generator).to(device)
    return Batch(images, torch.zeros(size).long().to(device), torch.arange(size), targets=tuple(targets))


def _networks(device: torch.device) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    student, teacher = small_detector(CLASSES + 1).train().to(device), large_detector(CLASSES + 1).eval().to(device)
    return student, teacher.requires_grad_(requires_grad=False), torch.optim.SGD(student.parameters(), lr=1e-4)


def _ours(text: str, batch: Batch) -> Callable[[], None]:
    """A step as the training loop takes it."""
    student, teacher, optimizer = _networks(batch.images.device)
    task, method = Detection(CLASSES), parse_method(text, supervised=1.0)
    if method.needs_teacher:
        _connect(method, task, student, teacher, batch)

    def step() -> None:
        found = teacher_output(teacher, batch.images) if method.needs_teacher else None
        output = task.student_output(student, None, batch, (0, 1))
        same = None if found is None else task.on_same_rows(found, output)
        optimizer.zero_grad()
        torch.stack(list(method(output, same, task.target(batch, output)).values())).sum().backward()
        optimizer.step()

    return step


def _connect(method: Method, task: Detection, student: nn.Module, teacher: nn.Module, batch: Batch) -> None:
    with torch.no_grad():
        output = task.student_output(student, None, batch, (0, 1))
        outputs = {"student": output, "teacher": task.on_same_rows(teacher_output(teacher, batch.images), output)}
    connect_outputs(method, outputs, None, (task.target(batch, output), None, None))


def _plain(batch: Batch) -> Callable[[], None]:
    """A step of the plain loop, with Hinton's loss at temperature 4."""
    networks: Any = _networks(batch.images.device)
    student, teacher, optimizer = networks
    student.transform = teacher.transform = _Identity()
    images = list(batch.images)
    targets = [{"boxes": one.boxes, "labels": one.labels + 1} for one in batch.targets]
    seen: list[Any] = []
    student.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, given: seen.append(given))

    def logits(model: Any, maps: Any, proposals: Any, sizes: Any) -> Tensor:
        heads = model.roi_heads
        result: Tensor = heads.box_predictor(heads.box_head(heads.box_roi_pool(maps, proposals, sizes)))[0]
        return result

    def step() -> None:
        seen.clear()
        losses = student(images, targets)
        maps, proposals, sizes = seen[0]
        own = logits(student, maps, proposals, sizes)
        with torch.no_grad():
            theirs = logits(teacher, teacher.backbone(batch.images), proposals, sizes)
        divergence = F.kl_div((own / 4).log_softmax(1), (theirs / 4).softmax(1), reduction="batchmean")
        optimizer.zero_grad()
        (sum(losses.values()) + 0.9 * 16 * divergence).backward()
        optimizer.step()

    return step


class _Identity(nn.Module):
    """Images of one size that are normalised already, as torchvision's transform would pass them on."""

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[Any, Any]:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(images), [(SIDE, SIDE)] * len(images)), targets

    def postprocess(self, found: Any, *_: object) -> Any:
        """Keep the boxes as they are."""
        return found


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
