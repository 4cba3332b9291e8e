"""The settings of models, teachers and processes, each with its meaning, default and range.

Nothing here imports PyTorch: ``stillroom --help`` must not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.settings import described, setting


@described
@dataclass(frozen=True, kw_only=True)
class TrainModel:
    """The model."""

    model: str = setting(
        "a name from `stillroom list models`, timm:NAME, torchvision:NAME, package.module:function, or the folder of a "
        "finished run",
        path=True, axis=True)  # fmt: skip
    checkpoint: str | None = setting(
        "file with weights to start from (.safetensors, .pt, .pth); with a run folder, used instead of the run's "
        "own",
        None, path=True)  # fmt: skip
    pretrained: bool = setting(
        "start from the published weights of a timm or torchvision model; refused for any other model",
        False, fetches="model")  # fmt: skip
    new_head: bool = setting(
        "start with a new head where the weights of the checkpoint, or of the run folder, are for other classes", False
    )


@described
@dataclass(frozen=True, kw_only=True)
class DistillModels:
    """Teacher, student and the method between them."""

    teacher: str = setting(
        "the folder of a finished run, a name from `stillroom list models`, timm:NAME, torchvision:NAME, "
        "package.module:function, an ONNX file, the address of a served model (http://HOST/v2/models/NAME), or a YAML "
        "file with several teachers",
        path=True, axis=True)  # fmt: skip
    student: str = setting(
        "named like the teacher; starts from random weights unless told otherwise", path=True, axis=True
    )
    method: str = setting(
        'the losses: a name from `stillroom list methods`, "ldrld(depth=5)", or a sum such as '
        '"0.1*ce + 0.9*kd(temperature=4)"',
        "ldrld", axis=True)  # fmt: skip
    teacher_checkpoint: str | None = setting(
        "file with the teacher's weights (.safetensors, .pt, .pth); with a run folder, used instead of the run's own",
        None, path=True)  # fmt: skip
    teacher_pretrained: bool = setting(
        "use the published weights of a timm or torchvision teacher; refused for any other teacher",
        False, fetches="teacher")  # fmt: skip
    student_checkpoint: str | None = setting(
        "file with weights for the student to start from; as teacher_checkpoint", None, path=True
    )
    student_pretrained: bool = setting(
        "start from the published weights of a timm or torchvision student, with a new head for other classes; refused "
        "for any other student",
        False, fetches="student")  # fmt: skip
    new_head: bool = setting(
        "start the student with a new head where the weights of its checkpoint, or of its run folder, are for other "
        "classes",
        False)  # fmt: skip


@described
@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """How the teacher takes images, and what its predictions mean."""

    teacher_image_size: int | None = setting(
        "side in pixels at which the teacher takes the images. Default: that of its run, of its published weights or "
        "of its file, else the student's",
        None, at_least=8, unit="pixels")  # fmt: skip
    teacher_interpolation: Literal["nearest", "bilinear", "bicubic"] | None = setting(
        "how images are resized for the teacher. Default: as for its published weights, else bicubic", None
    )
    teacher_mean: list[float] | None = setting(
        "channel means on [0, 1] of the teacher's input. Default: as for teacher_image_size",
        None, at_least=0, at_most=1)  # fmt: skip
    teacher_std: list[float] | None = setting(
        "channel standard deviations on [0, 1] of the teacher's input. Default: as for teacher_image_size",
        None, above=0, at_most=1)  # fmt: skip
    teacher_output: Literal["logits", "probabilities", "top-k", "labels", "embedding"] = setting(
        "what the teacher gives for an image. top-k: the probabilities of its k most likely classes; the rest is "
        "spread evenly over the others. embedding: a vector, from a network without its classifier, for methods such "
        "as embed_cosine",
        "logits")  # fmt: skip
    teacher_output_name: str | None = setting(
        "output of an ONNX file or a server to use; two, separated by a comma, for top-k. Default: chosen by type", None
    )
    teacher_classes: str | None = setting(
        "file with the names of the teacher's classes: one a line, or a JSON or YAML list. Default: those of its run, "
        "of its published weights or of its file",
        None, path=True)  # fmt: skip
    class_map: str = setting(
        "how the teacher's classes become those of the data: auto (by name, WordNet id or ImageNet name), none (in "
        "their order), or a CSV or YAML file with two columns, teacher and data",
        "auto", path=True)  # fmt: skip
    unmapped: Literal["refuse", "lowest"] = setting(
        "what to do with a class of the data that the teacher does not have: refuse, or give it the smallest mapped "
        "logit",
        "refuse")  # fmt: skip


@described
@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """Requests to a teacher behind a server (http://HOST/v2/models/NAME)."""

    teacher_batch_size: int = setting("images in a request to the server", 16, at_least=1, may_change=True)
    teacher_concurrency: int = setting("simultaneous requests to the server", 4, at_least=1, may_change=True)
    teacher_timeout: float = setting(
        "seconds until a request without a response is repeated", 60.0, above=0, unit="seconds", may_change=True
    )
    teacher_patience: float = setting(
        "seconds to wait for a server that is busy or out of reach, before the run ends with an error",
        600.0, at_least=0, unit="seconds", may_change=True)  # fmt: skip
    teacher_query_budget: int | None = setting(
        "largest number of images to send to the server, over all runs with the same bank folder. Default: no limit",
        None, at_least=0, may_change=True)  # fmt: skip
    teacher_api_key_env: str | None = setting(
        "name of the environment variable that holds the server's API key; the key itself is never written anywhere",
        None, may_change=True)  # fmt: skip
    teacher_identity: str | None = setting(
        "text that stands for the teacher, to be changed when it is replaced; required where a server names no "
        "version, and with bank where a network has contents that cannot be read",
        None)  # fmt: skip


@described
@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """The processes of the run."""

    launcher: Literal["none", "ray"] = setting(
        "who starts the processes of the run: none (this process, or those that torchrun has started) or ray (Ray "
        "Train, one process per device, on all machines of a Ray cluster)",
        "none", may_change=True)  # fmt: skip
    processes: int | None = setting(
        "processes that launcher=ray starts. Default: one per GPU of the cluster", None, at_least=1, may_change=True
    )
    ray: str = setting(
        "the Ray cluster of launcher=ray: local starts one here, auto finds a running one, or give an address",
        "local", may_change=True)  # fmt: skip
    max_restarts: int = setting(
        "how often launcher=ray starts all processes again, from the last checkpoint, after one of them has failed",
        3, at_least=0, may_change=True)  # fmt: skip
