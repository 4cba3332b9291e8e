"""The ONNX graph of a detector, and the check that its detections agree with PyTorch's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.boxes import Detections
from stillroom.errors import InputError
from stillroom.export.onnx_graph import OPSET, exporting, save_graph
from stillroom.export.onnx_session import INPUT, run_session
from stillroom.models.detectors import check_two_stage
from stillroom.tasks.region_step import detect

OUTPUTS = ("boxes", "scores", "labels")
BOX_TOLERANCE = 0.1  # pixels between two edges
SCORE_TOLERANCE = 1e-3
# Fraction of the detections that need no counterpart: the IoU of two boxes can lie at the threshold of the suppression,
# and a score at the threshold of what is kept.
UNMATCHED = 0.01
_DIVISIBLE = 32


@dataclass(frozen=True)
class DetectionParity:
    """How close a graph's detections are to PyTorch's.

    Attributes:
        images: compared.
        detections: PyTorch's in these images.
        box_difference: the largest between two edges, in pixels.
        score_difference: the largest between two scores.
        unmatched: detections of either side without a counterpart of the same class within the tolerances.
    """

    images: int
    detections: int
    box_difference: float
    score_difference: float
    unmatched: int


class WholeDetector(nn.Module):
    """A detector from an image in [0, 1] to boxes in the image's pixels: normalisation and resizing included.

    Args:
        model: accepted by :func:`stillroom.models.detectors.check_two_stage`; copied.
        image_size: the shorter side that images are resized to.
        max_size: the longer side at most.
    """

    def __init__(self, model: nn.Module, image_size: int, max_size: int) -> None:
        super().__init__()
        check_two_stage(model)
        parts: Any = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
        transform = parts.transform
        transform.min_size, transform.max_size, transform.fixed_size = (image_size,), max_size, None
        transform.resize = _exact_in_graphs(transform.resize, image_size, max_size)
        # torchvision keeps the scales of the levels from the first image: let that be one without padding, as detect
        # takes the sizes with padding.
        parts.roi_heads.box_roi_pool.scales = None
        side = -(-image_size // _DIVISIBLE) * _DIVISIBLE
        detect(parts, torch.zeros(1, 3, side, side), [(side, side)])
        self.model = parts
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One image (1, 3, H, W) -> boxes (n, 4), scores (n,), labels (n,) without background."""
        found = self.model([images[0]])[0]
        return found["boxes"], found["scores"], found["labels"] - 1


def _exact_in_graphs(resize: Callable[..., Any], image_size: int, max_size: int) -> Callable[..., Any]:
    """A transform's method ``resize`` that computes sizes in a graph as precisely as outside of it.

    torchvision multiplies in float32 there, so that sides of some images come out a pixel shorter.
    """
    from torch.onnx.operators import shape_as_tensor

    def run(image: Tensor, target: None = None) -> tuple[Tensor, None]:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            same: tuple[Tensor, None] = resize(image, target)
            return same
        sides = shape_as_tensor(image)[-2:].double()
        wanted = sides.new_tensor([image_size, max_size])  # a number divided by a tensor is a product with 1 / tensor
        scale = (wanted / torch.stack([sides.min(), sides.max()])).min()
        height, width = (sides * scale).floor().long().unbind()
        size: Any = (height, width)
        return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0], None

    return run


def write_detector_graph(detector: WholeDetector, image: Tensor, path: Path, facts: dict[str, Any]) -> None:
    """Write a detector as ONNX, for one image of any size at once.

    The graph is traced: the sizes of its tensors follow from what is in an image, which ``torch.export`` cannot
    express for torchvision's detectors (tried with torch 2.15, dynamic and fixed size).

    Args:
        detector: the model with its transform.
        image: an image in which it finds something, (3, H, W) in [0, 1].
        path: the file.
        facts: stored in the file as JSON under ``stillroom``.

    Raises:
        InputError: PyTorch's exporter cannot trace the model.
    """
    import onnx

    rows = {name: {0: "detections"} for name in OUTPUTS}
    with exporting(detector.model):
        torch.onnx.export(
            detector,
            (image[None],),
            str(path),
            dynamo=False,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={INPUT: {2: "height", 3: "width"}, **rows},
            opset_version=OPSET,
        )
        save_graph(onnx.load_model(str(path)), path, facts)


def torch_detections(detector: WholeDetector, images: Sequence[Tensor]) -> list[Detections]:
    """PyTorch's detections in images (3, H, W), in their pixels."""
    with torch.inference_mode():
        return [Detections(*detector(image[None])) for image in images]


def session_detections(session: Any, images: Sequence[Tensor]) -> list[Detections]:
    """The detections of an onnxruntime session in images (3, H, W), in their pixels.

    Raises:
        InputError: onnxruntime cannot run the graph.
    """
    return [Detections(*run_session(session, OUTPUTS, image[None])) for image in images]


def compare_detections(ours: Sequence[Detections], theirs: Sequence[Detections]) -> DetectionParity:
    """Pair the detections of two forms of a detector, each with the other's most similar box of its class.

    Args:
        ours: PyTorch's in N images.
        theirs: of the other form, in the same images.
    """
    pairs = [_pairs(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    boxes, scores, paired = (torch.cat([pair[place] for pair in pairs]) for place in range(3))
    found = sum(map(len, ours))
    box, score = (float(values[paired].max()) if bool(paired.any()) else 0.0 for values in (boxes, scores))
    unmatched = found + sum(map(len, theirs)) - 2 * int(paired.sum())
    return DetectionParity(len(ours), found, box, score, unmatched)


def check_detections(ours: Sequence[Detections], theirs: Sequence[Detections]) -> DetectionParity:
    """Compare a graph's detections with PyTorch's.

    Raises:
        InputError: nothing is found, or too many detections have no counterpart within the tolerances.
    """
    parity = compare_detections(ours, theirs)
    if not parity.detections:
        raise InputError(
            f"the detector finds nothing in {parity.images} images, so its ONNX file cannot be checked; give "
            "onnx=False (--no_onnx) for the PyTorch files alone"
        )
    if parity.unmatched > UNMATCHED * 2 * parity.detections:
        raise InputError(
            f"the ONNX file differs from PyTorch: {parity.unmatched} detections ({parity.detections} are PyTorch's) "
            f"have no counterpart of the same class within {BOX_TOLERANCE} pixels and {SCORE_TOLERANCE} in score; "
            "nothing was written, give onnx=False (--no_onnx) for the PyTorch files alone"
        )
    return parity


def _pairs(mine: Detections, other: Detections) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of mine: difference of box and score to its counterpart, and whether there is one that has no other."""
    boxes, scores, paired = mine.boxes.new_zeros(len(mine)), mine.scores.new_zeros(len(mine)), torch.zeros(len(mine))
    free = torch.ones(len(other), dtype=torch.bool)
    alike = mine.labels[:, None] == other.labels
    apart = (mine.boxes[:, None] - other.boxes).abs().amax(-1)
    close = (mine.scores[:, None] - other.scores).abs()
    fits = alike & (apart <= BOX_TOLERANCE) & (close <= SCORE_TOLERANCE)
    for place in range(len(mine)):
        here = torch.where(fits[place] & free, apart[place], torch.inf)
        if len(here) and bool(here.isfinite().any()):
            best = int(here.argmin())
            free[best] = False
            boxes[place], scores[place], paired[place] = apart[place, best], close[place, best], 1
    return boxes, scores, paired.bool()
