"""From a name to a network: one of the lists, a function's, or the student of a finished run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from stillroom.data import DataSet
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.models import ZOO, build_model, load_weights
from stillroom.models.student_wrapper import rewrapped
from stillroom.trust import TYPED, Trust, naming

ModelLike = str | nn.Module


def is_run(model: str | Path) -> bool:
    """Whether a model's name, or a path, is the folder of a run, finished or not."""
    return (Path(model) / "config.yaml").is_file()


def was_handed_in(model: str) -> bool:
    """Whether a run's model is the class name of a module handed in from Python, by which nothing can be built."""
    return not any(mark in model for mark in ":/\\") and model not in ZOO and not is_run(model)


def followed(model: str, trust: Trust) -> tuple[str, Trust]:
    """What a run folder's model was built from, where need be over several folders, and what is permitted for it.

    Args:
        model: a run folder, or any other model's name, which is returned as it is.
        trust: what is permitted for ``model``.

    Raises:
        InputError: a folder cannot be read, or names itself.
    """
    seen: set[Path] = set()
    while is_run(model):
        run = Path(model)
        if run.resolve() in seen:
            raise InputError(f"{run} names itself as the model that it began from; bring back its config.yaml")
        seen.add(run.resolve())
        model, trust = trained_model(RunFolder(run).config()), trust.inside(run)
    return model, trust


def is_function(model: str) -> bool:
    """Whether a model's name is that of a function of the user's own, ``package.module:function``."""
    return ":" in model and not model.startswith(("timm:", "torchvision:"))


def build(
    role: str, model: ModelLike, data: DataSet, checkpoint: str | None, pretrained: bool, trust: Trust
) -> nn.Module:
    """Build a model for some images, or bring one back from its run folder.

    Raises:
        UntrustedError: a name that ``trust`` does not permit would be imported or fetched.
        InputError: naming the role and what does not fit.
    """
    if isinstance(model, str) and is_run(model):
        return _from_run(role, RunFolder(Path(model), trust), data, checkpoint)
    height, width = data.train.images.shape[2:]
    try:
        return build_model(
            model,
            num_classes=len(data.train.classes),
            in_channels=data.train.images.shape[1],
            image_size=(height, width),
            checkpoint=checkpoint,
            pretrained=pretrained,
            origin=trust.of(model) if isinstance(model, str) else TYPED,
        )
    except InputError as error:
        raise naming(role, error) from error


def _from_run(role: str, run: RunFolder, data: DataSet, checkpoint: str | None) -> nn.Module:
    """The model of a finished run, in the form it was trained in."""
    config = run.config()
    if not run.finished:
        raise InputError(f"{role}={run.path}: this run is not finished; run its command again first")
    known, asked = config["classes"], list(data.train.classes)
    if len(known) == len(asked) and known != asked:
        differ = next(pair for pair in zip(known, asked, strict=True) if pair[0] != pair[1])
        raise InputError(
            f"{role}={run.path} was trained on other classes ({differ[0]!r} where the data has {differ[1]!r})"
        )
    followed(str(run.path), run.trust)
    name = trained_model(config)
    if was_handed_in(name):
        raise InputError(
            f"{role}={run.path}: its model was handed in as a module ({name}), which a name cannot build again; give "
            "the module itself where Python takes one, or train by the name of a function, package.module:function"
        )
    model = build(role, name, data, None, pretrained=False, trust=run.trust.inside(run.path))
    model = rewrapped(model, config, len(asked))
    try:
        load_weights(model, checkpoint or str(run.student))
    except InputError as error:
        raise InputError(f"{role}: {error}") from error
    return model


def fingerprint(model: nn.Module) -> str:
    """A short hash of a model's weights and buffers."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
