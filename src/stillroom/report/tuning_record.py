"""The record of a tuning: its methods, its budget, its trials with their scores, and the winners."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from stillroom.formatting import counted
from stillroom.report.comparison_file import NamedMethod
from stillroom.run_names import slug

FEW_IMAGES = 1000  # fewer held-out images choose the best trials by chance in part
TRIALS_TEACHER = "trials/teacher"  # in its folder, the run of the teacher that a tuning trains for the trials

Value = float | int | str | bool


@dataclass(frozen=True)
class Budget:
    """What every method may spend; the same for all.

    Attributes:
        trials: number of trials per method.
        rungs: lengths of training in epochs, increasing.
        quotas: number of trials that are trained at each rung; all of them at the first.
    """

    trials: int
    rungs: tuple[int, ...]
    quotas: tuple[int, ...]

    @property
    def epochs(self) -> int:
        """Epochs per method, over all its trials and rungs."""
        return sum(quota * epochs for quota, epochs in zip(self.quotas, self.rungs, strict=True))

    @property
    def words(self) -> str:
        """The trials at each rung, such as "12 x 4, 4 x 12"."""
        return ", ".join(f"{quota} x {epochs}" for quota, epochs in zip(self.quotas, self.rungs, strict=True))


@dataclass(frozen=True)
class Trial:
    """One set of values for the parameters of a method.

    Attributes:
        method: the method's label.
        number: counted from 0; trial 0 has the default values.
        values: by parameter.
        scores: epochs of a rung -> main score on the held-out images after the last epoch, in percent.
        problems: epochs of a rung -> why its run has no score, such as "Diverged: ...".
    """

    method: str
    number: int
    values: Mapping[str, Value]
    scores: Mapping[int, float] = field(default_factory=dict)
    problems: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Winner:
    """The best trial of a method at the longest rung.

    Attributes:
        text: of the method with the trial's values, as for ``stillroom distill --method``.
        settings: the trial's other values, such as ``{"lr": 0.02}``.
        trial: its number.
        score: at the longest rung, in percent.
    """

    text: str
    settings: Mapping[str, Any]
    trial: int
    score: float

    @property
    def method(self) -> NamedMethod:
        """Its entry in a comparison."""
        return NamedMethod(self.text, self.settings)


class Caution(NamedTuple):
    """A reason to trust the held-out scores less, in a sentence or two, and what the user can do about it."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class Tuning:
    """A search for the best values of several methods' parameters, with equal budgets.

    Attributes:
        folder: contains the record and the trials' runs.
        teacher: run folder or model.
        student: model.
        methods: by label, as they were before the search.
        budget: of each method.
        spaces: label -> parameter -> its range, as in the file of spaces.
        seed: of the search.
        hold_out: fraction of the training images of each class that the trials are judged by.
        settings: common to all runs: data, optimizer and run settings.
        trials: in the order in which they were proposed.
        winners: by label; empty until the search has ended. A method all of whose trials failed has none.
        search_teacher: run folder of the teacher of the trials; "trials/teacher" for one that the tuning trains itself;
            empty where it is ``teacher``.
        held_out_images: number of images that the trials are judged by.
        seen_by_teacher: how many of them the teacher of the trials was trained on, as far as is known.
    """

    folder: Path
    teacher: str
    student: str
    methods: Mapping[str, NamedMethod]
    budget: Budget
    spaces: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seed: int
    hold_out: float
    settings: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()
    winners: Mapping[str, Winner] = field(default_factory=dict)
    search_teacher: str = ""
    held_out_images: int = 0
    seen_by_teacher: int = 0

    def of_method(self, label: str) -> tuple[Trial, ...]:
        """The trials of a method, by number."""
        return tuple(sorted((t for t in self.trials if t.method == label), key=lambda trial: trial.number))

    @property
    def trained_teacher(self) -> Path | None:
        """The run folder of the teacher that the tuning trained for the trials; None without one."""
        return self.folder / TRIALS_TEACHER if self.search_teacher == TRIALS_TEACHER else None

    @property
    def cautions(self) -> tuple[Caution, ...]:
        """What to know before the held-out scores are compared."""
        found = []
        if self.seen_by_teacher:
            found.append(
                Caution(
                    f"The teacher of the trials was trained on {self.seen_by_teacher:,} of the "
                    f"{counted(self.held_out_images, 'held-out image')}. So held-out scores are too high, most of all "
                    "those of methods that copy the teacher closely.",
                    f"Give search_teacher=, a run that was trained with hold_out={self.hold_out:g}, or compare the "
                    "methods by the final runs only",
                )
            )
        # the score of a detector is no fraction of the images
        if 0 < self.held_out_images < FEW_IMAGES and self.settings.get("task") != "detection":
            error = 50 / math.sqrt(self.held_out_images)  # of a fraction, where it is largest
            found.append(
                Caution(
                    f"A score on {counted(self.held_out_images, 'held-out image')} has a standard error of up to "
                    f"{error:.1f} points, so smaller differences between trials can be chance.",
                    "A larger hold_out= gives more",
                )
            )
        return tuple(found)


def trial_folder(folder: Path, label: str, number: int, epochs: int) -> Path:
    """The run folder of a trial at the rung of some epochs, in the folder of its tuning."""
    return folder / "trials" / f"{slug(label)}-t{number:03d}-e{epochs}"
