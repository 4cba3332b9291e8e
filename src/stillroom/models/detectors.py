"""Build a two-stage detector by name: a Faster R-CNN with a feature pyramid, or the user's function or module.

A name such as ``fasterrcnn_resnet18_fpn`` has published weights for its backbone (ImageNet); ``torchvision:NAME`` has
those of the whole detector (COCO). Batch norm is trained in a detector that starts from random weights. With published
weights its statistics are frozen, as in torchvision and detectron2, because a batch of few large images estimates them
badly; so are the first layers, which need no training.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillroom.errors import InputError, did_you_mean, first_line
from stillroom.formatting import counted
from stillroom.models import external, factory
from stillroom.models.classifier_head import head_classes
from stillroom.models.detector_architectures import BUILDERS, freeze
from stillroom.models.weight_files import read_checkpoint
from stillroom.models.weights import classes_of_checkpoint, load_weights
from stillroom.trust import TYPED, Origin

_PARTS = {
    "": ("backbone", "rpn", "roi_heads", "transform"),
    "rpn": ("head", "fg_bg_sampler"),
    "roi_heads": ("box_roi_pool", "box_head", "box_predictor", "fg_bg_sampler", "select_training_samples",
                  "postprocess_detections"),
    "transform": ("image_mean", "image_std"),
}  # fmt: skip
_EPSILON = 1e-5  # torchvision's default for norms, trained or frozen

_log = logging.getLogger(__name__)


def build_detector(
    spec: str | nn.Module,
    classes: Sequence[str],
    *,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    new_head: bool | None = False,
    origin: Origin = TYPED,
) -> nn.Module:
    """Build a two-stage detector with a region logit for each class and for background.

    Args:
        spec: a name of :func:`describe_detectors`; ``torchvision:NAME`` of a Faster R-CNN; ``package.module:function``,
            called with ``num_classes=`` as torchvision counts, background included; or a module, returned as it is.
        classes: names of the K classes, without background.
        pretrained: download published weights: of the whole detector for ``torchvision:NAME``, of the backbone for
            other names. The last layers of a whole detector keep the rows of the classes where it knows all of their
            names; otherwise they are new.
        checkpoint: file of weights to load strictly; norms are frozen if they were when it was written.
        new_head: whether a checkpoint for other classes is accepted: the last layers start with zeros. None
            for a detector that is not trained, such as a teacher: it must have trained last layers.
        origin: where ``spec`` comes from; by default from the user.

    Returns:
        The detector in training mode (a module handed in keeps its mode), on the CPU.

    Raises:
        UntrustedError: ``origin`` does not permit the import or download that the name requires.
        InputError: an unknown name, a model that is no two-stage detector or has another number of classes, weights
            that cannot be downloaded or do not fit.
    """
    if not classes:
        raise InputError("there are no classes; a detector requires one at least")
    if pretrained and checkpoint is not None:
        raise InputError("pretrained=True and checkpoint both name weights; give one of them")
    shown = spec if isinstance(spec, str) else type(spec).__name__
    named = isinstance(spec, str) and not _is_function(spec)
    whole = new_head is None  # nothing trains it, so that new last layers would be of no use
    if pretrained and whole and shown in BUILDERS:
        raise InputError(
            f"{shown} has published weights for its backbone only, and it is not trained here; give a run folder, "
            "checkpoint=FILE, or torchvision:NAME"
        )
    if pretrained and not named:
        raise InputError(f"pretrained=True: there are no published weights for {shown}; give checkpoint=FILE")
    if isinstance(spec, nn.Module):
        model = spec
    elif named:
        model = _build_named(spec, classes, pretrained, origin, whole=whole)
    else:
        model = factory.from_function(spec, len(classes) + 1, 3, origin)
    check_two_stage(model)
    _check_outputs(model, shown, len(classes))
    if checkpoint is not None:
        if named and not _counts_batches(read_checkpoint(checkpoint)):
            freeze(model, shown)
        _check_checkpoint(model, checkpoint, len(classes), new_head)
        load_weights(model, checkpoint, new_head=new_head)
    return model


def check_two_stage(model: nn.Module) -> None:
    """Refuse a model whose forward pass is not that of a two-stage detector with boxes.

    Raises:
        InputError: it lacks parts of torchvision's ``GeneralizedRCNN``, or has a mask or keypoint head.
    """
    name = type(model).__name__
    for owner, parts in _PARTS.items():
        part = getattr(model, owner) if owner else model
        missing = [f"{owner}.{one}".lstrip(".") for one in parts if not hasattr(part, one)]
        if missing:
            raise InputError(
                f"{name} is not a two-stage detector: it has no {', '.join(missing)}; give a Faster R-CNN of "
                "torchvision, or a module with the same parts"
            )
    for kind in ("mask", "keypoint"):
        if getattr(model.roi_heads, f"{kind}_predictor", None) is not None:
            raise InputError(f"{name} has a {kind} head, and only boxes are trained; give a Faster R-CNN")


def describe_detectors() -> dict[str, str]:
    """The names that :func:`build_detector` knows without a prefix, each with one line about it."""
    return {name: about for name, (about, _) in BUILDERS.items()}


def _is_function(spec: str) -> bool:
    return ":" in spec and not spec.startswith(("timm:", "torchvision:"))


def _build_named(spec: str, classes: Sequence[str], pretrained: bool, origin: Origin, *, whole: bool) -> nn.Module:
    """Build a detector by its name or torchvision's."""
    _check_name(spec)
    external.permit(spec, origin, elsewhere=False, pretrained=pretrained)
    source, _, name = spec.rpartition(":")
    try:
        if source:
            return _from_torchvision(name, classes, pretrained, whole=whole)
        model = BUILDERS[spec][1](len(classes) + 1, "IMAGENET1K_V1" if pretrained else None)
    except InputError:
        raise
    except Exception as error:
        if pretrained and not source:
            raise InputError(
                f"ImageNet's weights for the backbone of {spec} cannot be loaded: {first_line(error)}; offline, copy "
                f"their file to {torch.hub.get_dir()}/checkpoints, or give pretrained=False"
            ) from error
        raise external.cannot_build(source, name, pretrained, error) from error
    if pretrained:
        freeze(model, name)
    return model


def _check_name(spec: str) -> None:
    """Refuse a name that no detector here has; say why where it is a model of another kind."""
    ours = (*BUILDERS, *(f"torchvision:{name}" for name in _torchvision_names()))
    if spec in ours:
        return
    name = spec.rpartition(":")[2]
    if name.startswith(("retinanet", "fcos", "ssd")):
        raise InputError(
            f"{spec} is a one-stage detector: it has no regions whose logits a method could compare; give a Faster "
            f"R-CNN, such as {ours[0]}"
        )
    if name.startswith(("maskrcnn", "keypointrcnn")):
        raise InputError(f"{spec} finds more than boxes, and only boxes are trained; give a Faster R-CNN: {ours[0]}")
    close = [name] if name in BUILDERS else get_close_matches(spec, ours, n=3)
    others = f"; known are {', '.join(ours)}, and package.module:function"
    raise InputError(f"the data has boxes, and there is no detector {spec!r}{did_you_mean(close, others)}")


def _torchvision_names() -> list[str]:
    import torchvision

    models: Any = torchvision.models  # its exports are not declared
    return list(models.list_models(module=models.detection, include="fasterrcnn_*"))


def _from_torchvision(name: str, classes: Sequence[str], pretrained: bool, *, whole: bool) -> nn.Module:
    """Build a Faster R-CNN of torchvision, with random or its published weights."""
    import torchvision

    models: Any = torchvision.models
    if not pretrained:
        plain: nn.Module = models.get_model(name, weights=None, weights_backbone=None, num_classes=len(classes) + 1)
        return plain
    model: nn.Module = models.get_model(name, weights="DEFAULT")
    _fold_epsilon(model)
    _choose_rows(model, models.get_model_weights(name)["DEFAULT"].meta["categories"], classes, name, whole=whole)
    return model


def _fold_epsilon(model: nn.Module) -> None:
    """Give frozen norms the default epsilon without changing their output.

    torchvision sets it to 0 for some weights. A state dict does not contain it, so a model that is built again with
    these weights would differ.
    """
    from torchvision.ops import FrozenBatchNorm2d

    for norm in model.modules():
        if isinstance(norm, FrozenBatchNorm2d) and norm.eps != _EPSILON:
            variance: Any = norm.running_var
            variance += norm.eps - _EPSILON
            norm.eps = _EPSILON


def _choose_rows(
    model: nn.Module, known: Sequence[str], classes: Sequence[str], name: str, *, whole: bool = False
) -> None:
    """Reduce the last layers to background and the classes, by name; replace them if any name is unknown.

    Args:
        model: a Faster R-CNN of torchvision; changed in place.
        known: the names of its region logits, background first.
        classes: the wanted names.
        name: of the model, for the note.
        whole: whether an unknown name is an error.

    Raises:
        InputError: a class is unknown, and the last layers may not be new.
    """
    heads: Any = model.roi_heads
    old = heads.box_predictor
    heads.box_predictor = type(old)(old.cls_score.in_features, len(classes) + 1)
    missing = [one for one in classes if one not in known]
    if missing and whole:
        raise InputError(
            f"torchvision:{name} does not know the class {missing[0]!r}, and it is not trained here; fine-tune it on "
            "the data first (stillroom train --pretrained true), and give that run"
        )
    if missing:
        _log.warning("torchvision:%s does not know the class %s: its last layers are new", name, missing[0])
        return
    rows = torch.tensor([0, *(known.index(one) for one in classes)])
    for layer, each in (("cls_score", 1), ("bbox_pred", 4)):  # outputs of each class
        wanted = (rows[:, None] * each + torch.arange(each)).flatten()
        state = {key: value[wanted] for key, value in getattr(old, layer).state_dict().items()}
        getattr(heads.box_predictor, layer).load_state_dict(state)


def _check_outputs(model: nn.Module, name: str, classes: int) -> None:
    found = head_classes(model)
    if found != classes + 1:
        raise InputError(
            f"{name} has {found} region logits; {counted(classes, 'class')} and background require {classes + 1}"
        )


def _check_checkpoint(model: nn.Module, path: str | Path, classes: int, new_head: bool | None) -> None:
    """Refuse a file for another number of classes in words that leave out background."""
    found = classes_of_checkpoint(path, model)
    if found is not None and found != classes + 1 and not new_head:
        fresh = "" if new_head is None else ", or new_head=true for new last layers"
        raise InputError(
            f"{path} does not fit: the checkpoint has {counted(found - 1, 'class')} without background, the data "
            f"{classes}; give a checkpoint for {classes}{fresh}"
        )


def _counts_batches(state: Mapping[str, Any]) -> bool:
    """Whether a state dict is of a detector whose norms are trained: frozen ones count no batches."""
    return any(name.endswith("num_batches_tracked") for name in state)
