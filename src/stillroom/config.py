"""Recipes: every setting of a run, with its default, checked before anything is built.

Settings are flat, so that ``--lr 0.1``, ``lr: 0.1`` in YAML and ``distill(lr=0.1)`` are the same thing. Nothing here
imports PyTorch: ``stillroom --help`` has to answer at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from stillroom.defaults import usual_lr, usual_milestones
from stillroom.errors import InputError, did_you_mean
from stillroom.files import require_text
from stillroom.setting_types import as_kind

PORTABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
PORTABLE_WORDS = "letters, digits, . - _ only, a letter or digit first, at most 120"


@dataclass(frozen=True, kw_only=True)
class TrainModel:
    """The classifier.

    Attributes:
        model: a name from ``stillroom list models``, timm:NAME, torchvision:NAME, package.module:function, or the
            folder of a finished run.
        checkpoint: file with weights to start from (.safetensors, .pt, .pth); with a run folder, in place of the run's.
        pretrained: start from the published weights of a timm or torchvision model; refused with any other.
    """

    model: str
    checkpoint: str | None = None
    pretrained: bool = False


@dataclass(frozen=True, kw_only=True)
class DistillModels:
    """Teacher, student and the method between them.

    Attributes:
        teacher: a trained run folder, a name from ``stillroom list models``, timm:NAME, torchvision:NAME or
            package.module:function.
        student: as teacher; it starts from random weights unless told otherwise.
        method: the losses, for example ldrld, "ldrld(depth=5)" or "0.1*ce + 0.9*kd(temperature=4)".
        teacher_checkpoint: file with the teacher's weights (.safetensors, .pt, .pth); with a run folder, in place of
            the run's.
        teacher_pretrained: use the published weights of a timm or torchvision teacher; refused with any other.
        student_checkpoint: file with weights for the student to start from, as for the teacher.
        student_pretrained: start from the published weights of a timm or torchvision student; refused with any other.
    """

    teacher: str
    student: str
    method: str = "ldrld"
    teacher_checkpoint: str | None = None
    teacher_pretrained: bool = False
    student_checkpoint: str | None = None
    student_pretrained: bool = False


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The images and how they are shown to the models.

    Attributes:
        data: a name from ``stillroom list data`` or a folder (class folders, train/ and val/, or Parquet files).
        root: where named sets are stored and downloaded to.
        image_size: side in pixels to resize to; needed when the images differ in size. Default: that of the run which
            the teacher (or the trained model) comes from.
        class_depth: levels from the folder, or its splits, down to the class folders: 2 where they lie in groups, as in
            alphabet/character/image.
        first_classes: use only the first k classes, for quick work.
        per_class: use only the first n training images of each class, for quick work.
        val_fraction: share of the images kept for validation when the folder has no split of its own.
        skip_broken: largest share of undecodable images to leave out; 0 stops at the first report.
        mean: channel means on [0, 1]; default: the teacher's, the set's known ones, or measured.
        std: channel standard deviations on [0, 1]; default as for mean.
        pad: random crop after padding by this many pixels, 0 turns it off; default what suits the set.
        flip: random horizontal flip; default what suits the set.
        rotate: random rotation up to this many degrees either way; default what suits the set.
        min_scale: smallest area share of a random resized crop, 1 turns it off; default what suits the set.
    """

    data: str
    root: str = "data"
    image_size: int | None = None
    class_depth: int = 1
    first_classes: int | None = None
    per_class: int | None = None
    val_fraction: float = 0.1
    skip_broken: float = 0.0
    mean: list[float] | None = None
    std: list[float] | None = None
    pad: int | None = None
    flip: bool | None = None
    rotate: float | None = None
    min_scale: float | None = None


@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """Optimizer, learning rate, and how fast batch norms forget.

    Attributes:
        optimizer: sgd as the published recipes use it, or adamw.
        lr: peak learning rate; default 0.05 for sgd (0.01 for a MobileNet or ShuffleNet, as published, EfficientNet or
            MNASNet, by the name of the model, function or class, or of what its run folder trained), 0.001 for adamw.
        weight_decay: default 0.0005 for sgd, 0.05 for adamw.
        momentum: of sgd.
        nesterov: Nesterov momentum for sgd.
        schedule: milestones (steps down) or cosine; default milestones for sgd, cosine for adamw.
        milestones: epochs after which the learning rate falls; default 5/8, 6/8 and 7/8 of the epochs (150, 180, 210
            of 240), fewer in runs below 7 epochs, where some of these coincide or come with the end (4, 5 of 6).
        gamma: the factor at each milestone.
        warmup_epochs: linear warm-up of the learning rate, step by step with cosine, epoch by epoch with milestones (as
            published: the first of k epochs has a k-th of the rate).
        unfinished_warmup: keep the rate of the warm-up's last epoch but one until the first milestone, as the
            published LDRLD code does by accident (0.95 of the rate after 20 epochs). For exact reproduction only.
        bn_momentum: share of a new batch in the running statistics of the student's batch norms; default as it was
            built (mostly 0.1; torchvision's MobileNetV3 has 0.01, and a short run then ends with statistics of weights
            long gone).
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    schedule: Literal["milestones", "cosine"] | None = None
    milestones: list[int] | None = None
    gamma: float = 0.1
    warmup_epochs: int = 0
    unfinished_warmup: bool = False
    bn_momentum: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Length, place and machine of the run.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all devices together.
        seed: fixes the initial weights, the order of the images and their augmentation.
        name: of the run folder; made from models, method, data and seed when not given.
        runs: the folder that run folders are made in.
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 (autocast) or auto, which takes bf16 where the processor has it.
        channels_last: keep images and weights in channels-last memory order.
        compile: run torch.compile on the student; pays on long runs only.
        bank: a folder for the teacher's logits: the first run with a teacher, data, augmentation and seed stores them,
            every later one reads them. Without it the teacher answers anew in every run.
        bank_gb: how large that folder may become; what does not fit is computed.
        shard_teacher: spread the teacher's weights over all processes (FSDP), for teachers too big for one device.
        checkpoint_every: epochs between checkpoints.
        export: which weights become student.safetensors, the last epoch's or the best epoch's.
    """

    epochs: int = 240
    batch_size: int = 64
    seed: int = 0
    name: str | None = None
    runs: str = "runs"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "32", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    bank: str | None = None
    bank_gb: float = 20.0
    shard_teacher: bool = False
    checkpoint_every: int = 1
    export: Literal["last", "best"] = "last"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of one run, in four groups."""

    models: TrainModel | DistillModels
    data: DataOptions
    optim: OptimOptions
    run: RunOptions

    def flat(self) -> dict[str, Any]:
        """Every setting under its own name, as in YAML."""
        return {
            key: value
            for group in (self.models, self.data, self.optim, self.run)
            for key, value in dataclasses.asdict(group).items()
        }

    @property
    def run_name(self) -> str:
        """The given name, or one made from what the run is; letters, digits, dots, dashes, underscores only."""
        if self.run.name is not None:
            return self.run.name
        if isinstance(self.models, TrainModel):
            parts = [self.models.model]
        else:
            parts = [self.models.student, "from", Path(self.models.teacher).name, self.models.method]
        data = Path(self.data.data).name or self.data.data
        return "-".join(slug(part) for part in [*parts, data, f"s{self.run.seed}"])


GROUPS = {"train": TrainModel, "distill": DistillModels}


def make_recipe(command: Literal["train", "distill"], settings: dict[str, Any]) -> Recipe:
    """Sort flat settings into their groups, fill the defaults that depend on others, and check every value.

    Args:
        command: which models the recipe has.
        settings: names and values, a subset of the fields of the four groups.

    Raises:
        InputError: for an unknown name, a missing one, a value of the wrong type, or an impossible one.
    """
    groups = {"models": GROUPS[command], "data": DataOptions, "optim": OptimOptions, "run": RunOptions}
    fields = {name: [f.name for f in dataclasses.fields(group)] for name, group in groups.items()}
    known = [name for names in fields.values() for name in names]
    for name, value in settings.items():
        if name not in known:
            raise InputError(unknown_setting(name, known))
        require_text(name, value)
    for group in groups.values():
        for f in dataclasses.fields(group):
            if f.default is dataclasses.MISSING and settings.get(f.name) is None:
                raise InputError(f"{f.name} is missing: say which {f.name} to use")
    parts: dict[str, Any] = {
        name: group(**{key: as_kind(key, settings[key], kind) for key, kind in kinds.items() if key in settings})
        for (name, group), kinds in zip(groups.items(), map(get_type_hints, groups.values()), strict=True)
    }
    recipe = Recipe(**parts)
    recipe = dataclasses.replace(recipe, optim=_resolve(recipe))
    _check(recipe)
    return recipe


def unknown_setting(name: str, known: list[str]) -> str:
    """What to say of a setting that does not exist.

    Args:
        name: as it was given.
        known: those that do.
    """
    import difflib

    hint = did_you_mean(difflib.get_close_matches(name, known, n=1), f"; known are {', '.join(known)}")
    return f"there is no setting {name!r}{hint}"


def _resolve(recipe: Recipe) -> OptimOptions:
    """Fill the defaults that depend on the optimizer, on the trained model and on the number of epochs."""
    models, optim, epochs = recipe.models, recipe.optim, recipe.run.epochs
    sgd = optim.optimizer == "sgd"
    trained = models.model if isinstance(models, TrainModel) else models.student
    schedule = optim.schedule or ("milestones" if sgd else "cosine")
    milestones = optim.milestones
    if milestones is None:
        milestones = list(usual_milestones(epochs)) if schedule == "milestones" else []
    return dataclasses.replace(
        optim,
        lr=usual_lr(optim.optimizer, trained) if optim.lr is None else optim.lr,
        weight_decay=(5e-4 if sgd else 0.05) if optim.weight_decay is None else optim.weight_decay,
        schedule=schedule,
        milestones=milestones,
    )


def _check(recipe: Recipe) -> None:
    """Refuse impossible values, one clear line each."""
    data, optim, run = recipe.data, recipe.optim, recipe.run
    assert optim.lr is not None
    assert optim.weight_decay is not None
    assert optim.milestones is not None
    rules: list[tuple[str, object, bool, str]] = [
        ("epochs", run.epochs, run.epochs >= 1, "at least 1"),
        ("batch_size", run.batch_size, run.batch_size >= 2, "at least 2, batch norm needs it"),
        ("seed", run.seed, 0 <= run.seed < 2**32, "between 0 and 4294967295"),
        ("bank_gb", run.bank_gb, 0 < run.bank_gb < math.inf, "gigabytes above 0"),
        ("checkpoint_every", run.checkpoint_every, run.checkpoint_every >= 1, "at least 1"),
        ("lr", optim.lr, 0 < optim.lr < math.inf, "a finite number above 0"),
        ("weight_decay", optim.weight_decay, 0 <= optim.weight_decay < math.inf, "a finite number >= 0"),
        ("momentum", optim.momentum, 0 <= optim.momentum < 1, "at least 0 and below 1"),
        ("nesterov", optim.nesterov, not optim.nesterov or optim.momentum > 0, "false, or a momentum above 0"),
        ("gamma", optim.gamma, 0 < optim.gamma <= 1, "above 0 and at most 1"),
        ("warmup_epochs", optim.warmup_epochs, 0 <= optim.warmup_epochs <= run.epochs, "between 0 and epochs"),
        (
            "warmup_epochs",
            optim.warmup_epochs,
            optim.schedule == "cosine" or optim.warmup_epochs != 1,
            "0, or at least 2: with milestones the rate rises from epoch to epoch, and 1 would change nothing",
        ),
        (
            "bn_momentum",
            optim.bn_momentum,
            optim.bn_momentum is None or 0 < optim.bn_momentum <= 1,
            "above 0 and at most 1",
        ),
        ("milestones", optim.milestones, optim.milestones == sorted(optim.milestones), "increasing epochs"),
        ("milestones", optim.milestones, all(m >= 0 for m in optim.milestones), "epochs of at least 0"),
        ("image_size", data.image_size, data.image_size is None or data.image_size >= 8, "at least 8 pixels"),
        ("class_depth", data.class_depth, data.class_depth >= 1, "at least 1"),
        ("first_classes", data.first_classes, data.first_classes is None or data.first_classes >= 2, "at least 2"),
        ("per_class", data.per_class, data.per_class is None or data.per_class >= 1, "at least 1"),
        ("val_fraction", data.val_fraction, 0 < data.val_fraction < 1, "between 0 and 1"),
        ("skip_broken", data.skip_broken, 0 <= data.skip_broken < 1, "at least 0 and below 1"),
        ("pad", data.pad, data.pad is None or data.pad >= 0, "at least 0 pixels"),
        ("rotate", data.rotate, data.rotate is None or 0 <= data.rotate <= 180, "between 0 and 180 degrees"),
        ("min_scale", data.min_scale, data.min_scale is None or 0 < data.min_scale <= 1, "above 0 and at most 1"),
        ("mean", data.mean, (data.mean is None) == (data.std is None), "together with std, or neither"),
        ("mean", data.mean, all(0 <= m <= 1 for m in data.mean or ()), "numbers on [0, 1]"),
        ("std", data.std, all(0 < s <= 1 for s in data.std or ()), "numbers above 0 and at most 1"),
        ("name", run.name, run.name is None or bool(PORTABLE.fullmatch(run.name)), PORTABLE_WORDS),
    ]
    for name, value, holds, wanted in rules:
        if not holds:
            raise InputError(f"{name}={value}: give {wanted}")


def slug(text: str) -> str:
    """A portable name; a long or rich text keeps its beginning and gets a short hash, so that names stay distinct."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_.") or "run"
    if len(plain) <= 40 and plain == text.replace(":", "_"):
        return plain
    return f"{plain[:40].rstrip('_.')}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
