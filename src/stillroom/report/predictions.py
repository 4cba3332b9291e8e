"""What a finished run's student and its teacher say about the validation images, computed once and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.config import VIEW, DataOptions
from stillroom.data import DataSet, MemoryLoader
from stillroom.engine.loaders import val_batch
from stillroom.engine.resume_check import contents_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.files import write_atomically
from stillroom.models.fusion import fused_copy
from stillroom.models.predict import predict
from stillroom.models.weight_files import read_safetensors
from stillroom.prepare.load_dataset import as_asked, load_dataset
from stillroom.prepare.run_identity import contents
from stillroom.reading import UnreadableError, open_file
from stillroom.resolve import build, fingerprint, is_run
from stillroom.runtime.device import Machine, make_machine

STORED = "validation.safetensors"
FORMAT = "1"  # to be raised when the files change: older ones are then computed again


@dataclass(frozen=True)
class Answers:
    """A model's answers about every validation image, in the data set's order.

    Attributes:
        logits: (N, C), float32, on the CPU.
        labels: (N,), int64, on the CPU.
    """

    logits: Tensor
    labels: Tensor

    @property
    def correct(self) -> Tensor:
        """Whether the label has the largest logit, (N,), bool."""
        return self.logits.argmax(1) == self.labels


def dataset_of(run: RunFolder) -> DataSet:
    """The images as a run saw them; those loaded last are kept, so that many runs of one comparison load them once.

    Raises:
        InputError: they cannot be loaded, or are not those of the run any more.
    """
    config = run.config()
    known = {field.name: config[field.name] for field in dataclasses.fields(DataOptions) if field.name in config}
    asked = DataOptions(**known)
    loaded_as = DataOptions(**{name: value for name, value in known.items() if name not in VIEW})
    data = as_asked(_loaded(loaded_as), asked, "")
    found = {
        "classes": list(data.train.classes), "image_shape": list(data.train.images.shape[1:]),
        "train_images": len(data.train), "val_images": len(data.val),
    }  # fmt: skip
    for name, value in found.items():
        if config.get(name, value) != value:
            raise InputError(
                f"{run.path}: the images of data={asked.data} have changed since this run ({name} differs); "
                "bring back those it was trained on, or train it again"
            )
    recorded = contents_of(config)
    if recorded is not None and recorded != _contents(loaded_as):
        raise InputError(
            f"{run.path}: the images or labels of data={asked.data} have changed since this run; bring back those it "
            "was trained on, or train it again"
        )
    return data


def named_set_of(run: RunFolder) -> DataSet | None:
    """The named set that a run was trained on, as it is without the run's settings; None where they are not the same.

    Args:
        run: with a named set's name as its data.
    """
    config = run.config()
    whole = DataOptions(data=str(config["data"]), root=str(config["root"]))
    try:
        return _loaded(whole) if _contents(whole) == contents_of(config) else None
    except InputError:
        return None


@lru_cache(maxsize=2)
def _loaded(options: DataOptions) -> DataSet:
    return load_dataset(options)


@lru_cache(maxsize=2)
def _contents(options: DataOptions) -> dict[str, str]:
    return contents(_loaded(options))


def student_of(run: RunFolder, data: DataSet) -> nn.Module:
    """A finished run's student, or the model of a training run, in evaluation mode on the CPU.

    Args:
        run: the run.
        data: from :func:`dataset_of`.

    Raises:
        InputError: the run is not finished, or its model cannot be built from its name.
    """
    with torch.random.fork_rng(devices=[]):
        return build("student", str(run.path), data, None, pretrained=False, trust=run.trust).eval()


def teacher_of(run: RunFolder, data: DataSet) -> nn.Module | None:
    """A run's teacher in evaluation mode on the CPU; None for a run without one.

    Args:
        run: the run.
        data: from :func:`dataset_of`.

    Raises:
        InputError: the teacher cannot be brought back, or has other weights than it had in the run.
    """
    config = run.config()
    if not config.get("teacher"):
        return None
    folder = teacher_run_of(run)
    name = config["teacher"] if folder is None else str(folder.path)
    if folder is None and _is_path(name):
        raise InputError(f"{run.path}: teacher={name} is not there any more; put its run folder beside this run's")
    checkpoint = config.get("teacher_checkpoint")
    with torch.random.fork_rng(devices=[]):
        teacher = build(
            "teacher", name, data, checkpoint, bool(config.get("teacher_pretrained")), run.trust.inside(run.path)
        )
    if fingerprint(teacher) != config["teacher_weights"]:
        raise InputError(f"{run.path}: teacher={name} has other weights now than in this run; bring back the old ones")
    return teacher.eval()


def teacher_run_of(run: RunFolder) -> RunFolder | None:
    """The run folder of a run's teacher: where the run found it, or beside the run if both were moved.

    None where there is no teacher or it came from somewhere else.
    """
    name = run.config().get("teacher")
    if not name:
        return None
    places = [Path(name), *([run.path.parent / Path(name).name] if _is_path(name) else [])]
    return next((RunFolder(place, run.trust) for place in places if is_run(place)), None)


def _is_path(name: str) -> bool:
    """Whether a teacher's name is a folder's, there or not, rather than a model's."""
    return "/" in name and ":" not in name


def answers(run: RunFolder) -> Answers:
    """The answers of a run's finished student, the exported weights.

    They are kept in the run folder as ``validation.safetensors``; a file that does not fit the run is made anew. They
    are computed in the run's number format, on this machine's device.

    Raises:
        InputError: the run is not finished, or its model or images cannot be brought back.
    """
    return _kept(run.path / STORED, run, weights_digest(run), student_of)


def teacher_answers(run: RunFolder) -> Answers | None:
    """The answers of a run's teacher about the images as the run saw them.

    They are kept beside the runs, once for all runs with the same teacher and images.

    Returns:
        None for a run without teacher, and where the teacher cannot be brought back (:func:`teacher_trouble` says
        why).

    Raises:
        InputError: the images cannot be brought back.
    """
    config = run.config()
    if not config.get("teacher_weights"):
        return None
    decisive = ("teacher_weights", "data", "image_size", "val_fraction", "skip_broken", "mean", "std", "precision")
    facts = {name: config.get(name) for name in (*decisive, "image_shape", "val_images", "classes")}
    if recorded := contents_of(config):
        facts |= {"data": recorded}  # wherever it lies
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    try:
        made = _kept(run.path.parent / f"teacher-{digest}.safetensors", run, digest, _teacher_or_error, taught=True)
    except _NoTeacherError:
        return None
    return made if bool(made.logits.isfinite().all()) else None


def teacher_trouble(run: RunFolder) -> str:
    """Why a run's teacher cannot be brought back; empty where it can, or where there is none.

    Raises:
        InputError: the images cannot be brought back.
    """
    if not run.config().get("teacher_weights") or teacher_answers(run) is not None:
        return ""
    return teacher_refusal(run) or "its logits on the validation images are not finite"


def teacher_refusal(run: RunFolder) -> str:
    """Why a run's teacher cannot be built again, though its logits may be kept; empty where it can or there is none."""
    try:
        teacher_of(run, dataset_of(run))
    except InputError as error:
        return str(error)
    return ""


def weights_digest(run: RunFolder) -> str:
    """Sixteen hexadecimal digits that name a finished run's exported weights, from their file as it lies.

    Raises:
        InputError: the run is not finished.
    """
    run.summary()
    try:
        with open_file(run.student) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{run.student} cannot be read ({error.strerror}); run the run's command again") from error


class _NoTeacherError(Exception):
    """The teacher cannot be brought back."""


def _teacher_or_error(run: RunFolder, data: DataSet) -> nn.Module:
    try:
        teacher = teacher_of(run, data)
    except InputError as error:
        raise _NoTeacherError from error
    assert teacher is not None
    return teacher


def _kept(
    path: Path,
    run: RunFolder,
    digest: str,
    model_of: Callable[[RunFolder, DataSet], nn.Module],
    *,
    taught: bool = False,
) -> Answers:
    """Answers from their file if it fits, else computed and written."""
    config = run.config()
    found = _read(path, digest, (config["val_images"], len(config["classes"])))
    if found is not None:
        return found
    data = dataset_of(run)
    made = _compute(model_of(run, data), data, config, taught=taught)
    with suppress(OSError):  # a folder that cannot be written costs time, not the report
        _write(path, digest, made)
    return made


def _compute(model: nn.Module, data: DataSet, config: Mapping[str, Any], *, taught: bool) -> Answers:
    """Ask a model as the loop asked it: same batches, number format, memory layout, and for a teacher the same copy."""
    machine = make_machine("auto", config.get("precision", "32"))
    layout = bool(config.get("channels_last", True))
    loader = MemoryLoader(
        data.val, batch_size=val_batch(len(data.val), config["batch_size"], Machine(machine.device, machine.precision)),
        mean=data.mean, std=data.std, shuffle=False, device=machine.device, channels_last=layout,
    )  # fmt: skip
    model.to(machine.device).to(memory_format=torch.channels_last if layout else torch.contiguous_format)
    if taught and machine.device.type == "cpu":
        model = fused_copy(model, next(loader.epoch(0)).images[:2])  # in bf16 its rounding shows in the accuracy
    logits, labels = (values.cpu() for values in predict(model, loader.epoch(0), machine.autocast()))
    return Answers(_rounded(logits), labels)


def _rounded(logits: Tensor) -> Tensor:
    """Logits as half precision holds them, where it does, without a change of the class that is named.

    Rounding makes close logits equal. Where the largest has an equal, it is raised to the next half number.
    """
    import numpy as np

    named = logits.topk(min(5, logits.shape[1]), dim=1).indices[:, 0]  # as the loop's accuracy takes it
    half = logits.half().numpy()
    rows = np.flatnonzero((half == half.max(1, keepdims=True)).sum(1) > 1)
    half[rows, named[rows]] = np.nextafter(half[rows, named[rows]], np.float16(np.inf))
    rounded = torch.from_numpy(half).float()
    return rounded if bool(rounded.isfinite().all()) else logits


def _write(path: Path, digest: str, made: Answers) -> None:
    from safetensors.torch import save

    half = made.logits.half()
    logits = half if torch.equal(half.float(), made.logits) else made.logits
    content = save({"logits": logits, "labels": made.labels}, {"format": FORMAT, "weights": digest})
    write_atomically(path, lambda aside: aside.write_bytes(content))


def _read(path: Path, digest: str, shape: tuple[int, int]) -> Answers | None:
    """What a file holds; None where there is none, or it is damaged, older or about other weights or images."""
    try:
        tensors, facts = read_safetensors(path)
        if facts != {"format": FORMAT, "weights": digest}:
            return None
        logits, labels = tensors["logits"].float(), tensors["labels"]
    except (OSError, UnreadableError, KeyError):
        return None
    fits = logits.shape == shape and labels.shape == shape[:1] and labels.dtype == torch.int64
    return Answers(logits, labels) if fits else None
