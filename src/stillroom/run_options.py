"""The settings of one training run: its length, batches, machine, bank and checkpoints.

Nothing here imports PyTorch: ``stillroom --help`` must not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.settings import described, setting


@described
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Length of the run, its folder, and the machine."""

    recipe: str = setting(
        "named settings below those that are given: strong (the defaults), plain (the published schedule), or a "
        "published recipe from `stillroom list recipes`",
        "strong", may_change=True)  # fmt: skip
    epochs: int = setting("passes over the training images", 240, at_least=1)
    batch_size: int = setting(
        "images in a step, over all devices together", 64, at_least=2, unit="images, for batch norm needs them"
    )
    patience: int | None = setting(
        "stop when k epochs in a row were no better than the best one before them, on training images that are held "
        "out (by agreement with the teacher where no image has a label). Default: train to the last epoch",
        None, at_least=1, unit="epochs")  # fmt: skip
    stop_fraction: float = setting(
        "with patience, fraction of the training images of each class that is held out of training to judge the epochs",
        0.1, above=0, below=1)  # fmt: skip
    seed: int = setting(
        "fixes the initial weights, the order of the images and their augmentation",
        0, at_least=0, below=2**32, axis=True)  # fmt: skip
    name: str | None = setting(
        "name of the run folder. Default: made from models, method, data and seed", None, may_change=True
    )
    runs: str = setting("folder in which run folders are created", "runs", may_change=True)
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = setting("device to train on", "auto", may_change=True)
    precision: Literal["auto", "32", "bf16"] = setting(
        "32 (float32), bf16 (autocast), or auto: bf16 where the device computes in it, except for depthwise networks "
        "on a processor",
        "auto",
    )
    channels_last: bool = setting("keep images and weights in channels-last memory format", True)
    compile: bool = setting("run torch.compile on the student; pays off in long runs only", False)
    bank: str | None = setting(
        "folder for the teacher's logits: the first run with a teacher, data, augmentation and seed stores them, later "
        "runs read them. Without it every run computes them",
        None, may_change=True)  # fmt: skip
    bank_gb: float = setting(
        "largest size of that folder in gigabytes; logits that do not fit are computed",
        20.0, above=0, unit="gigabytes", may_change=True)  # fmt: skip
    bank_bits: Literal["16", "8"] = setting(
        "bits of a stored logit: 16 (float16), or 8, with an offset and a scale for each image. Students train on the "
        "rounded logits",
        "16")  # fmt: skip
    repeat_views: int | None = setting(
        "show the order and augmentation of the first k epochs again and again, so that a bank stores k epochs and the "
        "teacher computes k passes, however long the run is. Default: new ones in every epoch",
        None, at_least=1, unit="epochs")  # fmt: skip
    shard_teacher: bool = setting(
        "spread the teacher's weights over all processes (FSDP), for teachers too large for one device",
        False, may_change=True)  # fmt: skip
    accumulate: int = setting(
        "parts of equal size, one after another, in which the batch of a step is computed, to save memory. Batch norm "
        "and losses that relate samples see one part",
        1, at_least=1)  # fmt: skip
    batch_norm: Literal["synchronised", "per_process"] = setting(
        "statistics of batch norm in training with several processes: synchronised takes those of the whole batch, as "
        "one process does; per_process those of each process's images, as published ImageNet recipes do",
        "synchronised")  # fmt: skip
    checkpoint_every: int = setting("epochs between checkpoints", 1, at_least=1, may_change=True)
    checkpoint_steps: int | None = setting(
        "also save a checkpoint after every so many steps. Default: after epochs only",
        None, at_least=1, unit="steps", may_change=True)  # fmt: skip
    checkpoint_minutes: float | None = setting(
        "also save a checkpoint when so many minutes have passed since the last one. Default: after epochs only",
        None, above=0, unit="minutes", may_change=True)  # fmt: skip
    log_to: list[str] | None = setting(
        "also log the run to these, separated by commas: tensorboard, wandb, mlflow, or package.module.Class of one's "
        "own",
        None, may_change=True)  # fmt: skip
    export: Literal["last", "best"] = setting(
        "which weights become student.safetensors: those of the last or of the best epoch. The best is chosen on the "
        "validation images; with patience on the held-out training images",
        "last",
    )
