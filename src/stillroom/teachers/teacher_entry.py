"""Teacher entry: one of several teachers, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.settings import described, setting


@described
@dataclass(frozen=True, kw_only=True)
class TeacherEntry:
    """One teacher, with its own classes and its own input format."""

    teacher: str = setting(
        "a run folder, a model name, timm:NAME, torchvision:NAME, package.module:function, an ONNX file or an address",
        path=True)  # fmt: skip
    weight: float = setting("its weight in the mean; the weights are divided by their sum", 1.0, above=0)
    image_size: int | None = setting(
        "side in pixels at which it takes images. Default: as its weights were trained", None, at_least=8, unit="pixels"
    )
    mean: list[float] | None = setting("channel means on [0, 1]. Default: its own", None, at_least=0, at_most=1)
    std: list[float] | None = setting(
        "channel standard deviations on [0, 1]. Default: its own", None, above=0, at_most=1
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = setting(
        "how images are resized. Default: its own", None
    )
    checkpoint: str | None = setting("file with its weights (.safetensors, .pt, .pth)", None, path=True)
    pretrained: bool = setting("use the published weights of a timm or torchvision model", False, fetches="teacher")
    class_map: str = setting(
        "how its classes become those of the data: auto, none, or a CSV or YAML file", "auto", path=True
    )
    classes: str | None = setting("file with the names of its classes", None, path=True)
    output: Literal["logits", "probabilities", "top-k", "labels", "embedding"] = setting("what it gives", "logits")
    unmapped: Literal["refuse", "lowest"] = setting(
        "what to do with a class of the data that it does not have: refuse, or give it the smallest mapped logit",
        "refuse")  # fmt: skip
