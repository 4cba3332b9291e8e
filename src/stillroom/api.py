"""Train, distil and evaluate from Python: the door that the command line uses too."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from stillroom.config import DataOptions, DistillModels, Recipe, TrainModel, make_recipe
from stillroom.data import DataSet, MemoryLoader, load_data
from stillroom.engine.evaluate import Evaluation, predict, score
from stillroom.engine.loop import Job, Loop, make_fabric
from stillroom.engine.progress import Reporter, make_reporter
from stillroom.engine.runs import RunFolder, open_run
from stillroom.errors import InputError
from stillroom.methods import Method, Term, parse_method
from stillroom.models import build_model, load_weights

ModelLike = str | nn.Module
DataLike = str | Path | DataSet


class Result(NamedTuple):
    """What a run gives back.

    Attributes:
        student: the trained model in evaluation mode.
        record: its run folder: ``record.summary()``, ``record.epochs()``, ``record.config()``, ``record.path``.
    """

    student: nn.Module
    record: RunFolder


@dataclass(frozen=True)
class Inputs:
    """Ready-made objects that take the place of names in a recipe; None means: build it from its name."""

    teacher: nn.Module | None = None
    student: nn.Module | None = None
    method: Method | None = None
    data: DataSet | None = None


def train(*, model: ModelLike, data: DataLike, progress: bool = False, **settings: Any) -> Result:
    """Train a classifier on labels.

    Args:
        model: a name (see ``stillroom list models``) or a module; a module is trained in place.
        data: a name (see ``stillroom list data``), a folder, or a loaded :class:`stillroom.data.DataSet`.
        progress: show progress on stderr.
        **settings: any setting of ``stillroom train --help``, for example ``epochs=30, lr=0.1``.

    Returns:
        The trained model and its record.

    Raises:
        InputError: for anything that cannot work, before training begins.
    """
    inputs = Inputs(student=_module(model), data=_loaded(data))
    recipe = make_recipe("train", {"model": _name(model), "data": _data_name(data), **settings})
    return run_recipe(recipe, make_reporter(progress), inputs)


def distill(
    *,
    teacher: ModelLike,
    student: ModelLike,
    data: DataLike,
    method: str | Method | nn.Module = "ldrld",
    progress: bool = False,
    **settings: Any,
) -> Result:
    """Distil a teacher into a student.

    Args:
        teacher: a run folder, a name, or a trained module; it is frozen and not changed.
        student: a name, or a module that is trained in place.
        data: a name, a folder, or a loaded :class:`stillroom.data.DataSet`.
        method: text such as ``"0.1*ce + 0.9*kd(temperature=4)"``, a :class:`stillroom.methods.Method`, or one loss
            module, which is added to the cross-entropy with weight 1.
        progress: show progress on stderr.
        **settings: any setting of ``stillroom distill --help``, for example ``epochs=30, lr=0.1``.

    Returns:
        The trained student and its record.

    Raises:
        InputError: for anything that cannot work, before training begins.
    """
    made = method if isinstance(method, Method) else None
    if made is None and isinstance(method, nn.Module):
        made = Method([Term(method)])
    inputs = Inputs(_module(teacher), _module(student), made, _loaded(data))
    names = {"teacher": _name(teacher), "student": _name(student), "data": _data_name(data)}
    text = made.text if made is not None else method
    recipe = make_recipe("distill", {**names, "method": text, **settings})
    return run_recipe(recipe, make_reporter(progress), inputs)


def evaluate(
    *,
    model: ModelLike,
    data: DataLike,
    checkpoint: str | None = None,
    pretrained: bool = False,
    batch_size: int = 256,
    accelerator: str = "auto",
    precision: str = "32",
    **options: Any,
) -> Evaluation:
    """Measure a classifier on the validation pictures.

    Args:
        model: a run folder, a name, or a module.
        data: a name, a folder, or a loaded :class:`stillroom.data.DataSet`.
        checkpoint: weights for a model given by name.
        pretrained: use the published weights of a timm or torchvision model.
        batch_size: pictures a step.
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 or auto.
        **options: settings of the data, as in ``stillroom evaluate --help``.

    Raises:
        InputError: for anything that cannot work.
    """
    chosen = make_recipe("train", {"model": _name(model), "data": _data_name(data), **options}).data
    _require_weights("model", model, checkpoint, pretrained)
    pictures = data if isinstance(data, DataSet) else _load(chosen)
    pictures = _as_asked(pictures, chosen, _name(model))
    network = _build("model", model, pictures, checkpoint, pretrained)
    fabric = make_fabric(accelerator, precision)
    loader = MemoryLoader(
        pictures.val, batch_size=batch_size, mean=pictures.mean, std=pictures.std, shuffle=False, device=fabric.device
    )
    return score(*predict(network.to(fabric.device), loader.epoch(0), fabric.autocast()))


def run_recipe(recipe: Recipe, reporter: Reporter, inputs: Inputs | None = None) -> Result:
    """Check everything, build everything, run the loop; or come back to a run that is done or was stopped.

    Args:
        recipe: from :func:`stillroom.config.make_recipe`.
        reporter: told about the progress.
        inputs: objects used instead of the recipe's names.

    Raises:
        InputError: for anything that cannot work, before training begins.
    """
    inputs = inputs or Inputs()
    with torch.random.fork_rng():  # the caller's random numbers are not ours to change
        job = _prepare(recipe, inputs, reporter)
        if job.run.finished:
            reporter.say(f"{job.run.path} is finished already; its record is used")
            load_weights(job.student, job.run.student)
            return Result(job.student.eval(), job.run)
        Loop(job, reporter).run()
    return Result(job.student, job.run)


def _prepare(recipe: Recipe, inputs: Inputs, reporter: Reporter) -> Job:
    models = recipe.models
    method = inputs.method or parse_method(models.method if isinstance(models, DistillModels) else "ce")
    _check_models(recipe, inputs)
    fabric = make_fabric(recipe.run.accelerator, recipe.run.precision)
    data = inputs.data or _load(recipe.data)
    teacher_name = models.teacher if isinstance(models, DistillModels) else ""
    data = _as_asked(data, recipe.data, teacher_name)
    for line in data.broken[:10]:
        reporter.say(f"left out: {line}")
    method.check(len(data.train.classes))
    torch.manual_seed(recipe.run.seed)
    if isinstance(models, TrainModel):
        student = _build("model", inputs.student or models.model, data, models.checkpoint, models.pretrained)
        teacher = None
    else:
        student = _build(
            "student", inputs.student or models.student, data, models.student_checkpoint, models.student_pretrained
        )
        teacher = _build(
            "teacher", inputs.teacher or models.teacher, data, models.teacher_checkpoint, models.teacher_pretrained
        )
    settings = recipe.flat() | asdict(data.augment) | {"mean": _plain(data.mean), "std": _plain(data.std)}
    path = Path(recipe.run.runs) / recipe.run_name
    run = open_run(path, settings, _inputs(data, teacher), _disk_need(student, recipe))
    return Job(student, teacher, method, data, recipe, run, fabric)


def _check_models(recipe: Recipe, inputs: Inputs) -> None:
    """Refuse unknown names and teachers without weights before a picture is read."""
    models = recipe.models
    if inputs.teacher is not None and inputs.teacher is inputs.student:
        raise InputError("teacher and student are the same module: give the student a module of its own")
    if isinstance(models, TrainModel):
        wanted = [("model", inputs.student or models.model, models.checkpoint, models.pretrained)]
    else:
        wanted = [
            ("teacher", inputs.teacher or models.teacher, models.teacher_checkpoint, models.teacher_pretrained),
            ("student", inputs.student or models.student, models.student_checkpoint, models.student_pretrained),
        ]
    for role, model, checkpoint, pretrained in wanted:
        if checkpoint is not None and not Path(checkpoint).is_file():
            key = "checkpoint" if role == "model" else f"{role}_checkpoint"
            raise InputError(f"{key}={checkpoint}: there is no such file")
        if role == "teacher":
            _require_weights(role, model, checkpoint, pretrained)
        if isinstance(model, str) and not _is_run(model):
            try:
                with torch.device("meta"):
                    build_model(model, num_classes=2)
            except InputError as error:
                raise InputError(f"{role}={model}: {error}") from error
            except Exception:  # noqa: BLE001, S110  some models cannot be built without memory; they get their turn
                pass


def _require_weights(role: str, model: ModelLike, checkpoint: str | None, pretrained: bool) -> None:
    if isinstance(model, str) and not (checkpoint or pretrained or _is_run(model) or _is_function(model)):
        prefix = "" if role == "model" else f"{role}_"
        raise InputError(
            f"{role}={model} would have random weights: give {prefix}checkpoint=FILE, {prefix}pretrained=true, "
            f"or as {role} the folder of a finished run"
        )


def _is_run(model: str) -> bool:
    return (Path(model) / "config.yaml").is_file()


def _is_function(model: str) -> bool:
    return ":" in model and not model.startswith(("timm:", "torchvision:"))


def _build(role: str, model: ModelLike, data: DataSet, checkpoint: str | None, pretrained: bool) -> nn.Module:
    if isinstance(model, str) and _is_run(model):
        run = RunFolder(Path(model))
        config = run.config()
        if not run.finished:
            raise InputError(f"{role}={model}: this run is not finished; run its command again first")
        model = config["model"] if "model" in config else config["student"]
        checkpoint = checkpoint or str(run.student)
    try:
        return build_model(
            model,
            num_classes=len(data.train.classes),
            in_channels=data.train.images.shape[1],
            image_size=data.train.images.shape[-1],
            checkpoint=checkpoint,
            pretrained=pretrained,
        )
    except InputError as error:
        raise InputError(f"{role}: {error}") from error


def _load(options: DataOptions) -> DataSet:
    return load_data(
        options.data,
        root=options.root,
        image_size=options.image_size,
        first_classes=options.first_classes,
        per_class=options.per_class,
        val_fraction=options.val_fraction,
        skip_broken=options.skip_broken,
    )


def _as_asked(data: DataSet, options: DataOptions, teacher: str) -> DataSet:
    """Put the user's augmentation and normalisation in place of the set's own.

    Without either, a teacher from a run folder sees pictures normalised as in its own training.
    """
    asked = {name: getattr(options, name) for name in ("pad", "flip", "rotate", "min_scale")}
    data = replace(data, augment=replace(data.augment, **{k: v for k, v in asked.items() if v is not None}))
    mean, std = options.mean, options.std
    if mean is None and teacher and _is_run(teacher):
        config = RunFolder(Path(teacher)).config()
        mean, std = config["mean"], config["std"]
    if mean is None or std is None:
        return data
    channels = data.train.images.shape[1]
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"mean={mean}, std={std}: the pictures have {channels} channels, give {channels} numbers each")
    return replace(data, mean=tuple(mean), std=tuple(std))


def _plain(values: Sequence[float]) -> list[float]:
    return [float(value) for value in values]


def _inputs(data: DataSet, teacher: nn.Module | None) -> dict[str, Any]:
    """What the run depends on beyond its settings."""
    images = data.train.images
    return {
        "picture_shape": list(images.shape[1:]),
        "train_pictures": len(data.train),
        "val_pictures": len(data.val),
        "classes": list(data.train.classes),
        "teacher_weights": None if teacher is None else fingerprint(teacher),
    }


def fingerprint(model: nn.Module) -> str:
    """A short hash of a model's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _disk_need(student: nn.Module, recipe: Recipe) -> int:
    """Bytes for two states (the old one stays until the new one is whole), the best and the final weights."""
    weights = sum(v.numel() * v.element_size() for v in student.state_dict().values())
    moments = 2 if recipe.optim.optimizer == "adamw" else 1
    return int(2 * weights * (1 + moments) + 2 * weights + 1_000_000)


def _module(value: ModelLike) -> nn.Module | None:
    return value if isinstance(value, nn.Module) else None


def _loaded(value: DataLike) -> DataSet | None:
    return value if isinstance(value, DataSet) else None


def _name(model: ModelLike) -> str:
    return model if isinstance(model, str) else f"{type(model).__module__}.{type(model).__qualname__}"


def _data_name(data: DataLike) -> str:
    return data.name if isinstance(data, DataSet) else str(data)


__all__ = ["Inputs", "Result", "distill", "evaluate", "fingerprint", "run_recipe", "train"]
