"""The configuration of a run: every setting with its meaning, default and range, checked before anything is built.

Settings are flat, so that ``--lr 0.1``, ``lr: 0.1`` in YAML and ``distill(lr=0.1)`` are the same thing. Nothing here
imports PyTorch: ``stillroom --help`` must not wait for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stillroom.data_options import DataOptions
from stillroom.defaults import usual_lr, usual_milestones, usual_schedule, usual_weight_decay
from stillroom.errors import InputError, did_you_mean
from stillroom.formatting import counted
from stillroom.optim_options import OptimOptions
from stillroom.optimizer_names import DELTAS, require_optimizer
from stillroom.recipes import recipe_settings, with_recipe
from stillroom.run_names import PORTABLE, PORTABLE_WORDS, slug
from stillroom.run_options import RunOptions
from stillroom.setting_groups import DistillModels, LaunchOptions, RemoteOptions, TeacherOptions, TrainModel
from stillroom.settings import Setting, defaults_in, make_group, settings_in

__all__ = [
    "AXES",
    "COMMON",
    "GROUPS",
    "MAY_CHANGE",
    "PATHS",
    "PER_METHOD",
    "SETTINGS",
    "VIEW",
    "DataOptions",
    "DistillModels",
    "LaunchOptions",
    "OptimOptions",
    "Recipe",
    "RemoteOptions",
    "RunOptions",
    "TeacherOptions",
    "TrainModel",
    "make_recipe",
    "refuse_unknown",
    "settings_where",
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of one run, in groups; those of a teacher only where there is one."""

    models: TrainModel | DistillModels
    data: DataOptions
    optim: OptimOptions
    run: RunOptions
    teacher: TeacherOptions | None = None
    remote: RemoteOptions | None = None
    launch: LaunchOptions = field(default_factory=LaunchOptions)

    def flat(self) -> dict[str, Any]:
        """Every setting under its own name, as in YAML."""
        return {
            key: value
            for group in (self.models, self.teacher, self.remote, self.data, self.optim, self.run, self.launch)
            if group is not None
            for key, value in dataclasses.asdict(group).items()
        }

    @property
    def run_name(self) -> str:
        """The given name, or one made from models, method, data and seed; portable as a file name."""
        if self.run.name is not None:
            return self.run.name
        if isinstance(self.models, TrainModel):
            parts = [self.models.model]
        else:
            parts = [self.models.student, "from", Path(self.models.teacher).name, self.models.method]
        data = Path(self.data.data).name or self.data.data
        return "-".join(slug(part) for part in [*parts, data, f"s{self.run.seed}"])


GROUPS: dict[str, dict[str, type]] = {
    "train": {"models": TrainModel, "launch": LaunchOptions},
    "distill": {
        "models": DistillModels, "teacher": TeacherOptions, "remote": RemoteOptions, "launch": LaunchOptions,
    },
}  # fmt: skip
COMMON = (DataOptions, OptimOptions, RunOptions)
WARMUP_WORDS = "0, or at least 2: with milestones the learning rate rises from epoch to epoch, and 1 changes nothing"
ONE_FACTOR = "1, or leave backbone_lr_factor at 1: both set the learning rate of the layers below the head"
NO_STREAMS = "sgd: without a teacher there is one stream of gradients, and dot and deepkd are sgd"
SETTINGS = settings_in(TrainModel, *GROUPS["distill"].values(), *COMMON)
DEFAULTS = defaults_in(TrainModel, *GROUPS["distill"].values(), *COMMON)


def settings_where(holds: Callable[[Setting], bool]) -> frozenset[str]:
    """The names of the settings of a run whose description fulfils a condition."""
    return frozenset(name for name, known in SETTINGS.items() if holds(known))


# As the descriptions say; see stillroom.settings.Setting.
MAY_CHANGE = settings_where(lambda known: known.may_change)
PATHS = settings_where(lambda known: known.path)
AXES = settings_where(lambda known: known.axis)
VIEW = settings_where(lambda known: known.view)
PER_METHOD = (*settings_in(OptimOptions), *(name for name in settings_in(DataOptions) if name in VIEW))


def make_recipe(command: Literal["train", "distill"], settings: dict[str, Any]) -> Recipe:
    """Sort flat settings into their groups, fill the defaults that depend on others, and check every value.

    Args:
        command: train for a classifier, distill for teacher and student.
        settings: values by name; with ``recipe``, those of the recipe of this name lie below them.

    Raises:
        InputError: a name is unknown or missing, or a value has a wrong type or is impossible.
    """
    known = settings_in(*GROUPS[command].values(), *COMMON)
    settings = with_recipe(settings, known)
    refuse_unknown(settings, known)
    groups = GROUPS[command] | {"data": DataOptions, "optim": OptimOptions, "run": RunOptions}
    parts: dict[str, Any] = {name: make_group(group, settings) for name, group in groups.items()}
    recipe = Recipe(**parts)
    recipe = dataclasses.replace(recipe, optim=_resolve(recipe))
    _check(recipe)
    return recipe


def refuse_unknown(settings: Collection[str], known: Collection[str]) -> None:
    """Refuse settings that do not exist.

    Raises:
        InputError: naming the first one and the closest known name.
    """
    import difflib

    for name in settings:
        if name not in known:
            hint = did_you_mean(difflib.get_close_matches(name, known, n=1), f"; known are {', '.join(known)}")
            raise InputError(f"there is no setting {name!r}{hint}")


def _resolve(recipe: Recipe) -> OptimOptions:
    """Fill the defaults that depend on the optimizer, on the trained model and on the number of epochs."""
    models, optim, epochs = recipe.models, recipe.optim, recipe.run.epochs
    require_optimizer(optim.optimizer)
    trained = models.model if isinstance(models, TrainModel) else models.student
    steps_down = optim.milestones is not None or optim.unfinished_warmup or optim.gamma != OptimOptions.gamma
    schedule = optim.schedule or usual_schedule(optim.optimizer, steps_down=steps_down)
    nesterov = optim.nesterov
    if nesterov is None:  # measured together: benchmarks/results/strong.md
        nesterov = (optim.optimizer, schedule) == ("sgd", "onecycle") and optim.momentum > 0
    milestones = optim.milestones
    if milestones is None:
        milestones = list(usual_milestones(epochs)) if schedule == "milestones" else []
    return dataclasses.replace(
        optim,
        lr=usual_lr(optim.optimizer, trained, schedule) if optim.lr is None else optim.lr,
        weight_decay=usual_weight_decay(optim.optimizer) if optim.weight_decay is None else optim.weight_decay,
        delta=_deltas(optim),
        nesterov=nesterov,
        schedule=schedule,
        milestones=milestones,
    )


def _deltas(optim: OptimOptions) -> float | list[float] | None:
    """The differences of the streams' momenta, one for dot and three for deepkd.

    Raises:
        InputError: there are others, for another optimizer, or a momentum would not be in [0, 1).
    """
    usual = DELTAS.get(optim.optimizer)
    if usual is None:
        if optim.delta is not None:
            raise InputError(f"delta={optim.delta}: optimizer={optim.optimizer} has one momentum; leave delta out")
        return None
    given = usual if optim.delta is None else optim.delta if isinstance(optim.delta, list) else [optim.delta]
    if len(given) != len(usual):
        raise InputError(f"delta={optim.delta}: give {counted(len(usual), 'number')} for optimizer={optim.optimizer}")
    signs = (1, -1) if optim.optimizer == "dot" else (1,)
    if not all(0 <= optim.momentum + sign * delta < 1 for delta in given for sign in signs):
        shown = given if optim.delta is None else optim.delta
        raise InputError(f"delta={shown}: give numbers that keep momentum={optim.momentum} at least 0 and below 1")
    return given


Rule = tuple[str, object, bool, str]  # name, value, whether it holds, what to give instead


def _check(recipe: Recipe) -> None:
    """Refuse values that contradict each other; a value's own range is checked with its type."""
    named = recipe_settings(recipe.run.recipe)
    for name, value, holds, wanted in (*_optimizer_rules(recipe), *_other_rules(recipe)):
        if not holds:
            source = f" (of recipe={recipe.run.recipe})" if name in named and named[name] == value else ""
            raise InputError(f"{name}={value}{source}: give {wanted}")


def _optimizer_rules(recipe: Recipe) -> list[Rule]:
    optim, run = recipe.optim, recipe.run
    assert optim.milestones is not None
    warmup, one_stream = optim.warmup_epochs, optim.optimizer not in DELTAS
    return [
        ("optimizer", optim.optimizer, one_stream or isinstance(recipe.models, DistillModels), NO_STREAMS),
        (
            "nesterov",
            optim.nesterov,
            not optim.nesterov or optim.optimizer in ("sgd", "adamw"),
            "false, or optimizer=sgd",
        ),
        (
            "deepkd_as_coded",
            optim.deepkd_as_coded,
            not optim.deepkd_as_coded or optim.optimizer == "deepkd",
            "false, or optimizer=deepkd",
        ),
        ("nesterov", optim.nesterov, not optim.nesterov or optim.momentum > 0, "false, or a momentum above 0"),
        ("warmup_epochs", warmup, warmup <= run.epochs, f"at most {run.epochs}, the number of epochs"),
        ("warmup_epochs", warmup, optim.schedule != "milestones" or warmup != 1, WARMUP_WORDS),
        ("freeze_epochs", optim.freeze_epochs, optim.freeze_epochs <= run.epochs, f"at most {run.epochs} epochs"),
        ("layer_decay", optim.layer_decay, 1 in (optim.layer_decay, optim.backbone_lr_factor), ONE_FACTOR),
        ("milestones", optim.milestones, optim.milestones == sorted(optim.milestones), "increasing epochs"),
        (
            "class_weights",
            optim.class_weights,
            optim.class_weights == "none" or recipe.data.sampling == "shuffled",
            "none with sampling=balanced: each of them makes all classes count alike",
        ),
    ]


def _other_rules(recipe: Recipe) -> list[Rule]:
    data, run, launch, teacher = recipe.data, recipe.run, recipe.launch, recipe.teacher or TeacherOptions()
    parts, images, fraction = run.accumulate, run.batch_size, run.stop_fraction
    stops = run.patience is not None
    return [
        ("mean", data.mean, (data.mean is None) == (data.std is None), "together with std, or neither"),
        (
            "teacher_mean",
            teacher.teacher_mean,
            (teacher.teacher_mean is None) == (teacher.teacher_std is None),
            "together with teacher_std, or neither",
        ),
        ("stop_fraction", fraction, stops or fraction == RunOptions.stop_fraction, "patience too"),
        ("processes", launch.processes, launch.processes is None or launch.launcher != "none", "launcher=ray too"),
        (
            "accumulate",
            parts,
            images >= 2 * parts,
            f"at most {images // 2}: a part of batch_size has at least 2 images",
        ),
        ("accumulate", parts, images % parts == 0, f"a divisor of batch_size={images}"),
        ("name", run.name, run.name is None or bool(PORTABLE.fullmatch(run.name)), PORTABLE_WORDS),
    ]
