"""The settings of a run in groups, each with its meaning, default and range.

Nothing here imports PyTorch: ``stillroom --help`` must not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.settings import described, setting


@described
@dataclass(frozen=True, kw_only=True)
class TrainModel:
    """The classifier."""

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
        "start from the published weights of a timm or torchvision student; refused for any other student",
        False, fetches="student")  # fmt: skip


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
class DataOptions:
    """The images, and how the models see them."""

    data: str = setting(
        "a name from `stillroom list data`, or a folder (class folders, train/ and val/, or Parquet files)", path=True
    )
    root: str = setting("folder in which named data sets are stored or downloaded", "data", path=True)
    image_size: int | None = setting(
        "side in pixels to resize to; required when the images differ in size. Default: the size of the run that the "
        "teacher (or the trained model) comes from",
        None, at_least=8, unit="pixels")  # fmt: skip
    view_size: int | None = setting(
        "side in pixels at which images are stored and augmented before each network takes them at its own size; at "
        "most their own size. Default: the larger of image_size and the teacher's size, where image_size is known",
        None, at_least=8, unit="pixels")  # fmt: skip
    class_depth: int = setting(
        "folder levels from the data set, or its splits, down to the class folders: 2 for alphabet/character/image",
        1, at_least=1)  # fmt: skip
    first_classes: int | None = setting("use only the first k classes, for quick work", None, at_least=2)
    per_class: int | None = setting("use only the first n training images of a class, for quick work", None, at_least=1)
    val_fraction: float = setting(
        "fraction of the images held out for validation when the folder has no split of its own",
        0.1, above=0, below=1)  # fmt: skip
    labels: Literal["auto", "none"] = setting(
        "none takes every training image without its label, also images that are not in class folders; validation "
        "images in class folders keep theirs", "auto")  # fmt: skip
    source: Literal["auto", "memory", "files"] = setting(
        "memory decodes all images once, at one size; files decodes them when they are needed, for sets of any size. "
        "auto takes files where the memory does not suffice, or where another setting requires them",
        "auto")  # fmt: skip
    workers: int | None = setting(
        "processes that decode images from files ahead of their use; 0 decodes in the run's own process. Default: the "
        "cores of this process, at most 16",
        None, at_least=0, may_change=True)  # fmt: skip
    crop_fraction: float | None = setting(
        "for images from files, the fraction of the shorter side that validation shows: 0.875 resizes it to 256 pixels "
        "and cuts out 224, as published for ImageNet. Default: 1",
        None, above=0, at_most=1)  # fmt: skip
    scaled_decoding: bool = setting(
        "decode JPEG files at 1/2, 1/4 or 1/8 of their size where a crop stays as large as its result; other pixels",
        False)  # fmt: skip
    skip_broken: float = setting(
        "largest fraction of undecodable images to leave out; 0 stops at the first one", 0.0, at_least=0, below=1
    )
    mean: list[float] | None = setting(
        "channel means on [0, 1]. Default: those of the teacher, those known for the data set, or measured ones",
        None, at_least=0, at_most=1, view=True)  # fmt: skip
    std: list[float] | None = setting(
        "channel standard deviations on [0, 1]. Default: as for mean", None, above=0, at_most=1, view=True
    )
    pad: int | None = setting(
        "random crop after padding by this many pixels; 0 turns it off. Default: what suits the data set",
        None, at_least=0, unit="pixels", view=True)  # fmt: skip
    flip: bool | None = setting("random horizontal flip. Default: what suits the data set", None, view=True)
    rotate: float | None = setting(
        "random rotation by up to this many degrees either way. Default: what suits the data set",
        None, at_least=0, at_most=180, unit="degrees", view=True)  # fmt: skip
    min_scale: float | None = setting(
        "smallest fraction of the area that a random resized crop keeps; 1 turns it off. Default: what suits the data "
        "set",
        None, above=0, at_most=1, view=True)  # fmt: skip
    colour_jitter: float | None = setting(
        "random factors on brightness, contrast and saturation, from 1 - this to 1 + this, in random order; 0 turns it "
        "off. Default: 0",
        None, at_least=0, at_most=1, view=True)  # fmt: skip
    auto_augment: Literal["none", "trivial", "rand"] | None = setting(
        "random operations on colours and geometry: trivial (TrivialAugmentWide), rand (RandAugment) or none. Default: "
        "none",
        None, view=True)  # fmt: skip
    rand_ops: int | None = setting("operations of RandAugment on an image. Default: 2", None, at_least=1, view=True)
    rand_magnitude: int | None = setting(
        "strength of RandAugment's operations, from 0 to 30. Default: 9", None, at_least=0, at_most=30, view=True
    )
    erase: float | None = setting(
        "probability that a random rectangle of an image is filled with the mean colour; 0 turns it off. Default: 0",
        None, at_least=0, at_most=1, view=True)  # fmt: skip


@described
@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """Optimizer, learning rate, fine-tuning and batch-norm momentum."""

    optimizer: Literal["sgd", "adamw"] = setting("sgd (the published recipes) or adamw", "sgd")
    lr: float | None = setting(
        "peak learning rate. Default: 0.001 for adamw; for sgd 0.05, or 0.01 for a MobileNet, ShuffleNet, EfficientNet "
        "or MNASNet, recognised by the name of the model, function or class, or by what its run folder trained",
        None, above=0)  # fmt: skip
    weight_decay: float | None = setting("weight decay. Default: 0.0005 for sgd, 0.05 for adamw", None, at_least=0)
    momentum: float = setting("momentum of sgd", 0.9, at_least=0, below=1)
    nesterov: bool = setting("Nesterov momentum for sgd", False)
    schedule: Literal["milestones", "cosine"] | None = setting(
        "learning-rate schedule: milestones (steps down) or cosine. Default: milestones for sgd, cosine for adamw", None
    )
    milestones: list[int] | None = setting(
        "epochs after which the learning rate falls. Default: 5/8, 6/8 and 7/8 of the epochs (150, 180, 210 of 240), "
        "each once and none at the end (4, 5 of 6)",
        None, at_least=0)  # fmt: skip
    gamma: float = setting("factor on the learning rate at each milestone", 0.1, above=0, at_most=1)
    warmup_epochs: int = setting(
        "epochs of linear learning-rate warm-up: step by step with cosine, epoch by epoch with milestones (as "
        "published: the first of k epochs has 1/k of the learning rate)",
        0, at_least=0)  # fmt: skip
    unfinished_warmup: bool = setting(
        "keep the learning rate of the last but one warm-up epoch until the first milestone, as the published LDRLD "
        "code does by accident (0.95 of the peak after 20 epochs). For exact reproduction only",
        False)  # fmt: skip
    freeze_epochs: int = setting(
        "train only the head (the last layer) in the first k epochs. The rest of the trained model is frozen, with its "
        "batch-norm statistics. As many as epochs make a linear probe",
        0, at_least=0)  # fmt: skip
    freeze_norms: bool = setting(
        "keep the running statistics of the trained model's batch norms, and normalise with them in every epoch: for a "
        "pretrained network and few images",
        False)  # fmt: skip
    backbone_lr_factor: float = setting(
        "factor on the learning rate of all layers of the trained model but its head", 1.0, above=0, at_most=1
    )
    layer_decay: float = setting(
        "factor on the learning rate from each layer of the trained model to the one before it; the head has the full "
        "learning rate. For timm models",
        1.0, above=0, at_most=1)  # fmt: skip
    bn_momentum: float | None = setting(
        "weight of a new batch in the running statistics of the student's batch norms. Default: as the model was built "
        "(mostly 0.1; torchvision's MobileNetV3 has 0.01, too slow for a short run)",
        None, above=0, at_most=1)  # fmt: skip


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
