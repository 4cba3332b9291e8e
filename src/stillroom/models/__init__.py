"""Classifiers: the CIFAR model zoo, timm, torchvision, the user's own modules, and checkpoint files.

``build_model`` builds any of them, ``load_weights`` and ``save_weights`` read and write weight files without running
code, and ``Tapped`` wraps a model so that it returns logits and features. timm, torchvision and safetensors are
imported when they are needed.
"""

from __future__ import annotations

from stillroom.models.build import BARE_NAMES, PRETRAINED_NAMES, build_model, is_published, without_weights
from stillroom.models.hooks import FeatureTap, Tapped, stages_of
from stillroom.models.output import check_output, logits_of
from stillroom.models.pretrained import published_classes, published_crop_fraction, published_input
from stillroom.models.weight_files import read_checkpoint
from stillroom.models.weights import LoadedWeights, classes_of_checkpoint, load_weights, save_weights
from stillroom.models.zoo import ZOO, ModelRow, describe_models

__all__ = [
    "BARE_NAMES",
    "PRETRAINED_NAMES",
    "ZOO",
    "FeatureTap",
    "LoadedWeights",
    "ModelRow",
    "Tapped",
    "build_model",
    "check_output",
    "classes_of_checkpoint",
    "describe_models",
    "is_published",
    "load_weights",
    "logits_of",
    "published_classes",
    "published_crop_fraction",
    "published_input",
    "read_checkpoint",
    "save_weights",
    "stages_of",
    "without_weights",
]
