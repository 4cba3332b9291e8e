"""Forward pass of a two-stage detector: pyramid, proposals, and the region head on sampled proposals.

The detector is torchvision's ``GeneralizedRCNN`` or a module with the same parts. Its parts are called as torchvision
calls them, except that

- its transform is bypassed: images come resized, normalised and padded;
- the anchors and proposals that are trained on are a function of a seed for each image;
- anchors, boxes and losses are computed in float32 under autocast, too;
- regions are pooled with the size of the padded images. torchvision takes the scale of each level from the sizes
  without padding of the first batch that a model sees, and keeps it.

The detector is never changed. Labels of regions and columns of region logits are torchvision's: 0 is background, class
``k`` of the data is ``k + 1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.boxes import Detections, ImageBoxes
from stillroom.tasks.seeded_sampling import SeededSampler, shadowed

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class RegionOutput:
    """What a detector computes for a training batch; R sampled proposals, K classes without background.

    Attributes:
        losses: ``loss_objectness``, ``loss_rpn_box_reg``, ``loss_classifier`` and ``loss_box_reg``, float32 scalars.
        logits: float32 (R, K + 1), background in column 0.
        labels: int64 (R,), 0 for background.
        embedding: float32 (R, D), the input of the last layers of the region head.
        proposals: float32 (r, 4) of each image, in pixels of the batch; R is the sum of r. Without gradients.
        pyramid: feature maps by name, from the finest to the coarsest; float32 (B, C, H, W).
        sizes: height and width of each image without padding.
    """

    losses: dict[str, Tensor]
    logits: Tensor
    labels: Tensor
    embedding: Tensor
    proposals: list[Tensor]
    pyramid: dict[str, Tensor]
    sizes: list[Size]


def input_statistics(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel that a detector's own transform normalises with, for [0, 1]."""
    transform: Any = model.transform
    return tuple(map(float, transform.image_mean)), tuple(map(float, transform.image_std))


def pyramid(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The feature maps of a detector's backbone.

    Args:
        model: accepted by :func:`stillroom.models.detectors.check_two_stage`.
        images: float (B, 3, H, W), normalised and padded to a multiple of 32.

    Returns:
        Maps (B, C, h, w) by name, from the finest to the coarsest, in float32 under autocast, too.
    """
    backbone: Any = model.backbone
    maps = backbone(images)
    if isinstance(maps, Tensor):
        maps = {"0": maps}  # torchvision's name of a single level
    return {name: _wide(level) for name, level in maps.items()}


def train_pass(model: nn.Module, images: Tensor, targets: Sequence[ImageBoxes], seeds: Tensor) -> RegionOutput:
    """One forward pass of a detector in training mode; its region head runs once.

    Crowd boxes are dropped, as by torchvision's reference: what they cover is background unless another box has it.

    Args:
        model: accepted by :func:`stillroom.models.detectors.check_two_stage`, in training mode.
        images: float (B, 3, H, W), as for :func:`pyramid`.
        targets: of each image, in pixels of ``images``; an image may have no objects.
        seeds: int64 (B, 2), as :func:`stillroom.tasks.seeded_sampling.sampling_seeds` returns them.

    Raises:
        ValueError: the model is in evaluation mode.
    """
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.roi_heads import fastrcnn_loss

    rpn: Any = model.rpn
    heads: Any = model.roi_heads
    if not rpn.training:
        raise ValueError("train_pass requires a model in training mode; call model.train() first")
    sizes = [target.size for target in targets]
    objects = [_objects(target, images.device) for target in targets]
    of_anchors, of_proposals = seeds.T.tolist()
    maps = pyramid(model, images)
    with shadowed(rpn, head=_wide_head(rpn.head), fg_bg_sampler=SeededSampler(rpn.fg_bg_sampler, of_anchors)):
        proposals, losses = rpn(ImageList(images, sizes), maps, objects)
    proposals = [one if len(one) else _whole(size, one) for one, size in zip(proposals, sizes, strict=True)]
    with shadowed(heads, fg_bg_sampler=SeededSampler(heads.fg_bg_sampler, of_proposals)), torch.no_grad():
        proposals, _, labels, offsets = heads.select_training_samples(proposals, objects)
    logits, deltas, embedding = _region_head(model, maps, proposals, images)
    class_loss, box_loss = fastrcnn_loss(logits, deltas, labels, offsets)
    losses = {**losses, "loss_classifier": class_loss, "loss_box_reg": box_loss}
    return RegionOutput(losses, logits, torch.cat(labels), embedding, proposals, maps, sizes)


@torch.no_grad()
def proposal_logits(
    model: nn.Module, images: Tensor, maps: dict[str, Tensor], proposals: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The region head of a detector on given proposals, such as those of another one.

    Args:
        model: accepted by :func:`stillroom.models.detectors.check_two_stage`, in evaluation mode.
        images: float (B, 3, H, W), as for :func:`pyramid`.
        maps: what :func:`pyramid` returns for this model and these images.
        proposals: float32 (r, 4) of each image, in pixels of ``images``.

    Returns:
        Logits float32 (R, K + 1), background in column 0, and embedding float32 (R, D), without gradients.
    """
    logits, _, embedding = _region_head(model, maps, proposals, images)
    return logits, embedding


@torch.no_grad()
def detect(model: nn.Module, images: Tensor, sizes: Sequence[Size]) -> list[Detections]:
    """Find the objects in images.

    Args:
        model: accepted by :func:`stillroom.models.detectors.check_two_stage`, in evaluation mode.
        images: float (B, 3, H, W), as for :func:`pyramid`.
        sizes: height and width of each image without padding.

    Returns:
        The detections of each image, in pixels of ``images``; labels without background.

    Raises:
        ValueError: the model is in training mode.
    """
    from torchvision.models.detection.image_list import ImageList

    rpn: Any = model.rpn
    heads: Any = model.roi_heads
    if rpn.training:
        raise ValueError("detect requires a model in evaluation mode; call model.eval() first")
    maps = pyramid(model, images)
    with shadowed(rpn, head=_wide_head(rpn.head)):
        proposals, _ = rpn(ImageList(images, list(sizes)), maps)
    logits, deltas, _ = _region_head(model, maps, proposals, images)
    found = heads.postprocess_detections(logits, deltas, proposals, list(sizes))
    return [Detections(boxes, scores, labels - 1) for boxes, scores, labels in zip(*found, strict=True)]


def _region_head(
    model: nn.Module, maps: dict[str, Tensor], proposals: list[Tensor], images: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, box offsets and embedding of proposals, float32."""
    heads: Any = model.roi_heads
    padded = (images.shape[-2], images.shape[-1])
    embedding = heads.box_head(heads.box_roi_pool(maps, proposals, [padded] * len(images)))
    logits, deltas = heads.box_predictor(embedding)
    return _wide(logits), _wide(deltas), _wide(embedding).flatten(1)


def _objects(target: ImageBoxes, device: torch.device) -> dict[str, Tensor]:
    """The objects of an image that are trained on, as torchvision takes them."""
    single = ~target.crowd
    return {"boxes": target.boxes[single].to(device), "labels": target.labels[single].to(device) + 1}


def _whole(size: Size, like: Tensor) -> Tensor:
    """The whole image as the only proposal, for an image without any: a mean over no regions would be NaN."""
    return like.new_tensor([[0, 0, size[1], size[0]]])


def _wide_head(head: Callable[[list[Tensor]], tuple[list[Tensor], list[Tensor]]]) -> Callable[..., Any]:
    """An RPN's head with outputs in float32: boxes that are decoded in bfloat16 are several pixels off."""

    def run(maps: list[Tensor]) -> tuple[list[Tensor], ...]:
        return tuple([_wide(level) for level in outputs] for outputs in head(maps))

    return run


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
