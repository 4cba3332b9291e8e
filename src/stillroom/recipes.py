"""Recipes: named settings, one file each. ``--recipe NAME`` puts them below the settings that the user gives.

A recipe of Stillroom lies at the top of the folder, as in ``strong.yaml``. A published recipe holds the settings of a
published experiment; its path is ``<dataset>/<teacher>-<student>/<method>.yaml``, and its mapping ``published`` has the
accuracy that was reported. Nothing here imports PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stillroom.errors import InputError, did_you_mean, first_line
from stillroom.reading import read_yaml
from stillroom.settings import as_kind

EPOCHS = ("best", "last", "unknown")
SCORES = ("top1", "ap")  # of images with one label, and of detectors; a recipe has one of them
KEYS = (*SCORES, "source", "epoch", "note")


@dataclass(frozen=True)
class PublishedRecipe:
    """Published settings and the reported result.

    Attributes:
        name: as in "cifar100/resnet32x4-resnet8x4/ldrld": data, pair and method.
        path: the file.
        settings: for :func:`stillroom.config.make_recipe`, without the teacher's weights.
        top1: reported top-1 accuracy in %; None where none is published.
        ap: reported average precision of a detector in %; None where none is published.
        source: the paper or repository and its table.
        epoch: which epoch the score is from: best, last or unknown.
        note: anything else needed to interpret the score; may be empty.
    """

    name: str
    path: Path
    settings: dict[str, Any]
    top1: float | None
    ap: float | None
    source: str
    epoch: str
    note: str

    @property
    def score(self) -> float | None:
        """The reported main score in %: top-1 accuracy or average precision."""
        return self.top1 if self.ap is None else self.ap

    @property
    def dataset(self) -> str:
        """The first part of the name, as in "cifar100"."""
        return self.name.split("/")[0]

    @property
    def method(self) -> str:
        """The last part of the name, as in "lskd-dkd"."""
        return self.name.split("/")[-1]


def recipes_folder() -> Path:
    """The folder of the recipes: in the installed package, or at the top of the repository.

    Raises:
        InputError: there is no such folder.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "published", here.parents[2] / "recipes"):
        if folder.is_dir():
            return folder
    raise InputError(f"there are no published recipes beside {here}: install stillroom again, or use its repository")


def recipe_files() -> list[Path]:
    """The files of all published recipes, sorted by name."""
    return sorted(recipes_folder().glob("*/*/*.yaml"))


def own_recipes() -> dict[str, str]:
    """What each recipe of Stillroom is, by its name."""
    return {path.stem: str(_read(path)["about"]) for path in sorted(recipes_folder().glob("*.yaml"))}


def with_recipe(settings: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Add the settings of the recipe that ``settings`` name, if they name one; a given setting wins over the recipe's.

    Args:
        settings: values by name, among them perhaps ``recipe``.
        known: the settings of the command. Others in the recipe are left out, such as ``teacher`` for ``train``.

    Raises:
        InputError: there is no recipe of this name.
    """
    if "recipe" not in settings:
        return dict(settings)
    found = recipe_settings(as_kind("recipe", settings["recipe"], str))
    return {**{name: value for name, value in found.items() if name in known}, **settings}


@cache
def recipe_settings(name: str) -> Mapping[str, Any]:
    """The settings of a recipe.

    Args:
        name: as ``stillroom list recipes`` shows it: "strong", "cifar100/resnet32x4-resnet8x4/dkd".

    Raises:
        InputError: there is no recipe of this name; the message has similar ones.
    """
    folder = recipes_folder()
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
    if name not in paths:
        import difflib

        hint = did_you_mean(difflib.get_close_matches(name, paths, n=3))
        raise InputError(f"recipe={name}: there is no such recipe{hint}; stillroom list recipes shows all")
    return {key: value for key, value in _read(paths[name]).items() if key not in ("about", "published")}


def load_published(path: str | Path) -> PublishedRecipe:
    """Read one recipe and check the reported result; :func:`stillroom.config.make_recipe` checks the settings.

    Args:
        path: a file ``<dataset>/<teacher>-<student>/<method>.yaml``.

    Raises:
        InputError: the file cannot be read, or ``published`` is missing, has an unknown key or an impossible value.
    """
    path = Path(path)
    settings = _read(path)
    if "published" not in settings:
        raise InputError(f"{path}: published is missing; add a mapping with {', '.join(KEYS)}")
    published = settings.pop("published")
    if not isinstance(published, dict):
        raise InputError(f"{path}: published={published!r} is no mapping; give it {', '.join(KEYS)}")
    for key in published:
        if key not in KEYS:
            raise InputError(f"{path}: published.{key} is unknown; known are {', '.join(KEYS)}")
    scores = [key for key in SCORES if key in published]
    if len(scores) > 1:
        raise InputError(f"{path}: published has both top1 and ap; give the one of its task")
    for key in (*(scores or SCORES[:1]), "source", "epoch"):
        if key not in published:
            raise InputError(f"{path}: published.{key} is missing; give {_RULES[key][1]}")
    for key, value in published.items():
        holds, wanted = _RULES[key]
        if not holds(value):
            raise InputError(f"{path}: published.{key}={value!r}: give {wanted}")
    top1, ap = (None if published.get(key) is None else float(published[key]) for key in SCORES)
    return PublishedRecipe(
        name="/".join(path.resolve().with_suffix("").parts[-3:]),
        path=path,
        settings=settings,
        top1=top1,
        ap=ap,
        source=published["source"],
        epoch=published["epoch"],
        note=published.get("note", ""),
    )


def published_recipes(
    dataset: str = "", teacher: str = "", student: str = "", method: str = ""
) -> list[PublishedRecipe]:
    """Find recipes, sorted by name.

    Filters ignore case. A filter that is a whole name selects only that name ("kd" does not select "dkd"); any other
    filter selects every name that contains it ("lskd" selects "lskd-kd" and "lskd-dkd"); an empty one selects all.

    Args:
        dataset: first part of the recipe's name, "cifar100".
        teacher: the setting, without a prefix such as ``timm:``.
        student: as teacher.
        method: last part of the recipe's name, "lskd-dkd".

    Raises:
        InputError: a recipe is broken.
    """
    found = sorted(map(load_published, recipe_files()), key=lambda recipe: recipe.name)
    filters: list[tuple[str, Callable[[PublishedRecipe], str]]] = [
        (dataset, lambda recipe: recipe.dataset),
        (teacher, lambda recipe: str(recipe.settings.get("teacher"))),
        (student, lambda recipe: str(recipe.settings.get("student"))),
        (method, lambda recipe: recipe.method),
    ]
    for wanted, value in filters:
        fits = _filter(wanted, {value(recipe) for recipe in found})
        found = [recipe for recipe in found if value(recipe) in fits]
    return found


def _filter(wanted: str, values: set[str]) -> set[str]:
    """The values that equal the wanted one, or else those that contain it."""
    wanted = _plain(wanted)
    return {value for value in values if _plain(value) == wanted} or {
        value for value in values if wanted in _plain(value)
    }


def _plain(name: str) -> str:
    return name.split(":")[-1].lower()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no recipe: write settings as name: value, one a line")
    return content


def _is_percentage(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 100


# Key of ``published`` -> check of its value, and the rule in words.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "top1": (_is_percentage, "a number from 0 to 100, or null where no accuracy is published"),
    "ap": (_is_percentage, "a number from 0 to 100, or null where no average precision is published"),
    "source": (lambda value: isinstance(value, str) and bool(value.strip()), "the paper or repository and its table"),
    "epoch": (lambda value: value in EPOCHS, f"one of {', '.join(EPOCHS)}"),
    "note": (lambda value: isinstance(value, str), "a text, or leave it out"),
}
