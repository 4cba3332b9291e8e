"""The settings of a tuning, read and checked without PyTorch: ``stillroom --help`` must not wait for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from stillroom.compare.options import CompareOptions, Methods, seeds_of
from stillroom.errors import InputError
from stillroom.settings import described, setting

SAME = "same"  # as a teacher of the trials: that of the final runs
COMPARE_FIELDS = {field.name: field for field in dataclasses.fields(CompareOptions)}


def _as_compared(name: str) -> Any:
    """A setting of the same meaning and default as in a comparison."""
    field = COMPARE_FIELDS[name]
    return dataclasses.field(default=field.default, metadata=field.metadata)


@described
@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """The search, the final runs, and how they are carried out."""

    teacher: str = setting(
        "the folder of a finished run, or a name from `stillroom list models`, which is trained first, on all training "
        "images",
        path=True)  # fmt: skip
    search_teacher: str | None = setting(
        "the teacher of the trials: the folder of a run that was trained without the held-out images, or same for the "
        "teacher of the final runs. Default: a teacher given by name is trained once more without them, another one "
        "is the same",
        None, path=True)  # fmt: skip
    student: str = setting("named as for `stillroom distill`", path=True)
    methods: Methods = setting(
        'separated by commas, as for `stillroom distill`: "kd,dkd,ldrld". What a method sets is the centre of its '
        "range. In a file they may have labels and settings of their own, as for `stillroom compare`",
        "ce,kd,dkd,ldrld")  # fmt: skip
    trials: int = setting("trials of each method; the first one has the default values", 12, at_least=1)
    rungs: list[int] | None = setting(
        "lengths of training in epochs: all trials are trained for the first one, the best of them for the next, and "
        "so on. Default: epochs divided by eta once or twice, where at least 4 remain, and epochs",
        None, at_least=1, unit="epochs")  # fmt: skip
    eta: int = setting("of the trials at a rung, one in eta is trained at the next", 3, at_least=2)
    space: str | None = setting(
        "YAML file with the ranges of parameters; its entries replace those of the default space", None, path=True
    )
    search_seed: int = setting("fixes the values that are tried; the trials' runs have seed 0", 0, at_least=0)
    seeds: int | list[int] | str = setting(
        "number of seeds of the final runs, counted from 1, or seeds separated by commas, without 0", 3
    )
    reference: str | None = _as_compared("reference")
    teacher_epochs: int | None = _as_compared("teacher_epochs")
    teacher_checkpoint: str | None = _as_compared("teacher_checkpoint")
    teacher_pretrained: bool = setting(
        "use the published weights of a timm or torchvision teacher", False, fetches="teacher"
    )
    student_pretrained: bool = setting(
        "start from the published weights of a timm or torchvision student", False, fetches="student"
    )
    jobs: int | None = _as_compared("jobs")
    retries: int = _as_compared("retries")
    ray: str | None = _as_compared("ray")
    page: bool = _as_compared("page")


def compare_options(options: TuneOptions, **more: Any) -> CompareOptions:
    """The comparison of the same pair and methods, with the seeds of the final runs.

    Args:
        options: of the tuning.
        **more: other values.

    Raises:
        InputError: the seeds cannot be used.
    """
    shared = {name: getattr(options, name) for name in vars(options) if name in COMPARE_FIELDS}
    pair = {"teachers": {options.teacher: options.teacher}, "students": {options.student: options.student}}
    return CompareOptions(**{**shared, **pair, "seeds": final_seeds(options), **more})


def final_seeds(options: TuneOptions) -> list[int]:
    """The seeds of the final runs in increasing order; the trials have seed 0, so that 0 is none of them.

    Raises:
        InputError: the value is neither a number of seeds nor a list of seeds, or 0 is among them.
    """
    given = options.seeds
    seeds = seeds_of(CompareOptions(teachers="", students="", seeds=given))
    if isinstance(given, int) or (isinstance(given, str) and "," not in given):
        return [seed + 1 for seed in seeds]
    if 0 in seeds:
        raise InputError(f"seeds={given}: the trials have seed 0; give the final runs others, such as 1,2,3")
    return seeds
