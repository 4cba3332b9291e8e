"""Notes and warnings at the start of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stillroom.config import DistillModels, Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.defaults import usual_lr
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import seen_by
from stillroom.methods import PRESETS, Method
from stillroom.methods.gradient_streams import streams_used
from stillroom.models import ZOO, published_input
from stillroom.models.batch_norm import USUAL_BN_MOMENTUM, bn_window
from stillroom.models.student_wrapper import unwrapped
from stillroom.optim import DOT, DeepKD
from stillroom.optimizer_names import MOMENTUM_SGD
from stillroom.prepare.leak_check import Earlier, count_among
from stillroom.prepare.model_builders import student_source
from stillroom.prepare.setup import Setup
from stillroom.resolve_model import ModelLike, is_run

SHOWN = 10  # names of images that were left out


def training_notes(setup: Setup, recipe: Recipe) -> list[str]:
    """Notes on settings that work but are probably not meant."""
    steps, batch = math.ceil(len(setup.data.train) / recipe.run.batch_size), recipe.run.batch_size
    run = recipe.run
    unused = [name for name, value in (("bank", run.bank), ("shard_teacher", run.shard_teacher)) if value]
    found = label_notes(setup)
    if isinstance(recipe.models, TrainModel) and recipe.data.mean is None and is_run(recipe.models.model):
        found.append(f"mean and std are those of the run {recipe.models.model}; mean= and std= set others")
    if unused and isinstance(recipe.models, TrainModel):
        found.append(f"{' and '.join(unused)} not used: a run that learns from labels has no teacher")
    optim, ce = recipe.optim, setup.method.ce
    if not ce and (optim.label_smoothing or optim.class_weights != "none"):
        found.append("label_smoothing and class_weights have no effect: the method has no cross-entropy (0*ce)")
    if steps == 1:
        found.append(
            f"batch_size={batch} takes all {len(setup.data.train):,} training images at once, so that an epoch is 1 "
            "step; a smaller batch size learns faster"
        )
    found += _method_notes(setup, recipe) + _optimizer_notes(setup, recipe) + _student_input_notes(setup, recipe)
    found += _freezing_notes(recipe) + _fine_tuning_notes(setup, recipe)
    window = bn_window(setup.joint.student)
    if window > max(steps, 1 / USUAL_BN_MOMENTUM):
        found.append(
            f"the trained model's batch norms average over some {window:,.0f} steps and an epoch has {steps}, so that "
            f"validation accuracy lags behind, by points in a short run; bn_momentum={USUAL_BN_MOMENTUM} helps"
        )
    return found


def _method_notes(setup: Setup, recipe: Recipe) -> list[str]:
    """A note on a method with the weights of classification that teaches a detector."""
    models = recipe.models
    if setup.data.task != "detection" or not isinstance(models, DistillModels) or models.method not in PRESETS:
        return []
    return [
        f"method={models.method} has the weight and temperature of classification, which are too large for the "
        'detectors that we trained; write others, such as "0.1*ldrld(temperature=1)"'
    ]


def _optimizer_notes(setup: Setup, recipe: Recipe) -> list[str]:
    """Notes on gradient streams, and on a learning rate that may not fall before the run ends."""
    run, optim, found = recipe.run, recipe.optim, []
    if streams := {"dot": DOT.streams, "deepkd": DeepKD.streams}.get(optim.optimizer):
        found.append(f"optimizer={optim.optimizer}: {stream_note(setup.method, streams)}")
    late = [str(milestone) for milestone in optim.milestones or [] if milestone >= run.epochs]
    if late and optim.schedule == "milestones":
        found.append(
            f"milestones: the run ends with epoch {run.epochs}, so that the learning rate does not fall at "
            f"{', '.join(late)}; give milestones for this number of epochs"
        )
    if run.patience is not None and run.patience < run.epochs and optim.schedule != "constant":
        found.append(
            f"patience={run.patience} can end the run before the learning rate has fallen to its end "
            f"(schedule={optim.schedule}), below the accuracy of the whole run; schedule=constant does not depend on "
            "the last epoch"
        )
    return found


def stream_note(method: Method, streams: Sequence[str]) -> str:
    """Which terms are in which gradient stream, and what that costs."""
    used = streams_used(method, streams)
    if len(used) == 1:
        return f"all terms are in one stream ({next(iter(used))}), so that it works as sgd"
    named = [f"{stream} ({', '.join(terms)})" for stream, terms in used.items()]
    return f"{', '.join(named[:-1])} and {named[-1]}: {len(used)} backward passes in each step, where sgd has 1"


def _student_input_notes(setup: Setup, recipe: Recipe) -> list[str]:
    """A note where a student with published weights takes images in another way than these weights did."""
    models = recipe.models
    if isinstance(models, TrainModel) or not models.student_pretrained:
        return []
    wanted = published_input(models.student, unwrapped(setup.joint.student))
    if wanted is None or (wanted.mean, wanted.std) == (setup.data.mean, setup.data.std):
        return []
    return [
        f"the weights of {models.student} were published for {replace(wanted, size=None)}, and the student takes "
        f"images with {replace(setup.data.input_format, size=None)}; mean= and std= set others"
    ]


def _has_trained_weights(recipe: Recipe) -> bool:
    """Whether the model that is trained starts from a checkpoint, published weights or a finished run."""
    name, checkpoint, pretrained = student_source(recipe)
    return checkpoint is not None or pretrained or is_run(name)


def _freezing_notes(recipe: Recipe) -> list[str]:
    """A note on frozen layers with random weights."""
    freeze, (name, _, _) = recipe.optim.freeze_epochs, student_source(recipe)
    known = name in ZOO or name.startswith(("timm:", "torchvision:"))  # a function or a module may bring its weights
    if not freeze or not known or _has_trained_weights(recipe):
        return []
    return [
        f"freeze_epochs={freeze}: the trained model starts from random weights, so that its frozen layers have learned "
        "nothing; give pretrained=true, a checkpoint, or the folder of a finished run"
    ]


def _fine_tuning_notes(setup: Setup, recipe: Recipe) -> list[str]:
    """A note on trained weights that learn at the default learning rate for random ones."""
    optim, (name, _, _) = recipe.optim, student_source(recipe)
    slower = optim.backbone_lr_factor < 1 or optim.layer_decay < 1 or optim.freeze_epochs >= recipe.run.epochs
    of_sgd = optim.optimizer in MOMENTUM_SGD
    if not of_sgd or slower or setup.data.task == "detection" or not _has_trained_weights(recipe):
        return []
    usual, lr = usual_lr(optim.optimizer, name, optim.schedule or ""), optim.lr or 0.0
    if lr < usual:
        return []
    return [
        f"lr={lr:g}: the default learning rate ({usual:g}) is for random weights and can destroy those that the "
        "model starts from; give backbone_lr_factor=0.1, or a smaller lr"
    ]


def label_notes(setup: Setup) -> list[str]:
    """Notes on images without a label, and on what is not measured for want of labels or of a trained classifier."""
    train, val = setup.data.train, setup.data.val
    found = []
    held_out = 0 if setup.stop_images is None else len(setup.stop_images)
    if dropped := setup.train_images - held_out - len(train):
        found.append(
            f"{dropped:,} of {setup.train_images:,} training images have no label and are left out: this method learns "
            "from labels only"
        )
    if train.unlabelled == len(train) and setup.method.ce:
        found.append("no training image has a label: the cross-entropy (ce) is 0 and has no effect")
    elif train.unlabelled:
        found.append(
            f"{train.unlabelled:,} of {len(train):,} training images have no label: the cross-entropy is the mean over "
            "the labelled images of a batch, and train_top1 counts these only"
        )
    if not setup.classifier_trained:
        found.append(
            "no loss trains the student's classifier: no accuracy is reported. Train a classifier on the finished "
            "student with a second command, stillroom train --model RUN_FOLDER --new_head true --data LABELLED_FOLDER"
        )
    elif val.unlabelled:
        compared = setup.teacher is not None and setup.teacher.offers != "embedding"
        agreement = "; agreement with the teacher is reported instead" if compared else ""
        found.append(f"the validation images have no labels: accuracy cannot be measured{agreement}")
    return found


def image_notes(data: DataSet, earlier: Earlier) -> list[str]:
    """Notes on the images, and on the runs that the weights come from, a line each."""
    return data_notes(data) + run_notes(earlier, data)


def evaluation_notes(model: ModelLike, data: DataSet) -> list[str]:
    """Notes on an evaluation: as for a run, and validation images that the model was trained on."""
    run = RunFolder(Path(model)) if isinstance(model, str) and is_run(model) else None
    found = image_notes(data, {} if run is None else {"model": run})
    if run is not None and (count := count_among(data, seen_by(run))):
        found.append(
            f"warning: {count:,} of the {len(data.val):,} validation images are among those that {run.path} was "
            "trained on; its accuracy on others is lower"
        )
    return found


def run_notes(earlier: Earlier, data: DataSet) -> list[str]:
    """Notes on earlier runs: another image size, and no record of their training images.

    A teacher takes images at the size of its run, but for a detector, whose images have the size of the student's.
    """
    found = []
    here, one_size = list(data.input_shape), data.train.one_size
    for role, run in earlier.items():
        there = run.config().get("image_shape", here)
        if there != here and (role != "teacher" or not one_size):
            before, now = (_size(shape, one_size=one_size) for shape in (there, here))
            found.append(
                f"note: {role}={run.path} was trained on images of {before} and gets them at {now}; where that is not "
                "meant, set image_size"
            )
        if seen_by(run) is None:
            found.append(
                f"note: {role}={run.path} has no record of the images it was trained on; validation images may be "
                "among them"
            )
    return found


def data_notes(data: DataSet) -> list[str]:
    """Notes on a data set: images left out, and validation images that are also training images."""
    found = [f"left out: {line}" for line in data.broken[:SHOWN]]
    if len(data.broken) > SHOWN:
        found.append(f"left out: {len(data.broken) - SHOWN:,} more that cannot be read")
    found += [f"note: {note}" for note in data.notes]
    if count := count_among(data, data.train.content().numpy()):
        found.append(
            f"warning: {count:,} of the {len(data.val):,} validation images are training images as well, byte by "
            "byte; they make accuracies too high"
        )
    return found


def _size(shape: list[int], *, one_size: bool) -> str:
    """A shape (C, H, W) in words; that of a set without a common size names the shorter side."""
    if not one_size:
        return f"{shape[1]} pixels (shorter side)"
    return f"{shape[2]}x{shape[1]} pixels" + (f" in {shape[0]} channels" if shape[0] != 3 else "")
