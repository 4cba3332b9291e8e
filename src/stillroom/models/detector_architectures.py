"""Faster R-CNNs with a feature pyramid that torchvision has the parts of: their backbones, trained or frozen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

# Blocks of MobileNetV2 at the end of strides 4, 8, 16 and 32, and their channels.
_MOBILENETV2_STAGES = {"3": 24, "6": 32, "13": 96, "17": 320}
# The first layers of each backbone, up to stride 4; torchvision freezes more of MobileNetV3.
_FIRST = {
    "resnet": ("conv1", "bn1", "layer1"),
    "mobilenetv2": ("0", "1", "2", "3"),
    "mobilenet_v3": tuple(str(block) for block in range(7)),
}


def freeze(model: nn.Module, name: str) -> None:
    """Freeze the norms of a backbone, and its first layers, in place.

    Args:
        model: a detector.
        name: a key of :data:`BUILDERS`, or torchvision's name, with its prefix or without.
    """
    from torchvision.ops import FrozenBatchNorm2d

    backbone: Any = model.backbone
    body: nn.Module = backbone.body
    for path, norm in list(body.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(norm.num_features, norm.eps)
            state = norm.state_dict()
            frozen.load_state_dict({key: state[key] for key in frozen.state_dict()})
            body.set_submodule(path, frozen)
    first = next(layers for part, layers in _FIRST.items() if part in name)
    for layer in first:
        body.get_submodule(layer).requires_grad_(False)


def _resnet(backbone: str, outputs: int, weights: str | None) -> nn.Module:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    return _faster_rcnn(
        resnet_fpn_backbone(backbone_name=backbone, weights=weights, norm_layer=nn.BatchNorm2d, trainable_layers=5),
        outputs,
    )


def _mobilenetv2(outputs: int, weights: str | None) -> nn.Module:
    """Four levels from the end of each stage; torchvision's own builder takes the start of the stages."""
    import torchvision
    from torchvision.models.detection.backbone_utils import BackboneWithFPN

    models: Any = torchvision.models  # its exports are not declared
    levels = {block: str(level) for level, block in enumerate(_MOBILENETV2_STAGES)}
    channels = list(_MOBILENETV2_STAGES.values())
    features = models.mobilenet_v2(weights=weights).features
    return _faster_rcnn(BackboneWithFPN(features, levels, channels, out_channels=256), outputs)


def _mobilenetv3(outputs: int, weights: str | None) -> nn.Module:
    """As torchvision builds it, but with norms that are trained."""
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import mobilenet_backbone

    anchors = AnchorGenerator(((32, 64, 128, 256, 512),) * 3, ((0.5, 1.0, 2.0),) * 3)
    backbone = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=weights, fpn=True, norm_layer=nn.BatchNorm2d, trainable_layers=6
    )
    return _faster_rcnn(backbone, outputs, rpn_anchor_generator=anchors, rpn_score_thresh=0.05)


def _faster_rcnn(backbone: nn.Module, outputs: int, **options: Any) -> nn.Module:
    from torchvision.models.detection import FasterRCNN

    model: nn.Module = FasterRCNN(backbone, outputs, **options)
    return model


# Name -> one line about it, and a function from (region logits, ImageNet weights or None) to the detector. Its norms
# are trained. The weights are those that torchvision's own detectors start from.
BUILDERS: dict[str, tuple[str, Callable[[int, str | None], nn.Module]]] = {
    "fasterrcnn_resnet18_fpn": ("Faster R-CNN, ResNet-18, levels p2 to p6", partial(_resnet, "resnet18")),
    "fasterrcnn_resnet50_fpn": ("Faster R-CNN, ResNet-50, levels p2 to p6", partial(_resnet, "resnet50")),
    "fasterrcnn_resnet101_fpn": ("Faster R-CNN, ResNet-101, levels p2 to p6", partial(_resnet, "resnet101")),
    "fasterrcnn_mobilenetv2_fpn": ("Faster R-CNN, MobileNetV2, levels p2 to p6", _mobilenetv2),
    "fasterrcnn_mobilenet_v3_large_fpn": (
        "Faster R-CNN, MobileNetV3-Large, two levels at stride 32, one at 64", _mobilenetv3
    ),
}  # fmt: skip
