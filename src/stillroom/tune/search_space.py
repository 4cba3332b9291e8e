"""The space of a method: its parameters with their ranges, and the text and settings that a trial's values make."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stillroom.compare.run_length import IN_EPOCHS, at_length, in_epochs
from stillroom.config import PER_METHOD, Recipe, make_recipe
from stillroom.errors import InputError, first_line
from stillroom.formatting import counted
from stillroom.losses.protocol import settings_of
from stillroom.methods import PRESETS, parse_method
from stillroom.methods.method_text import SUPERVISED, Call, Summand, read_summands, write_summands
from stillroom.methods.presets import WRAPPERS
from stillroom.reading import read_yaml
from stillroom.report.comparison_file import NamedMethod
from stillroom.report.tuning_record import Value
from stillroom.trust import Trust
from stillroom.tune.parameter_range import Range, read_range

DEFAULT_SPACES = Path(__file__).with_name("spaces.yaml")
SETTINGS = "settings"  # the entry of the parameters that every method has
PUBLISHED_EPOCHS = 240  # of the schedules that default warm-ups are from
FACTORS = ("weight", "warmup")  # parameters of a summand
OWN = {"weight": {"times": [0.25, 4]}}  # the space of a loss of the user's own
MOST_CORNERS = 1024

Entries = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Space:
    """The parameters of a method.

    Attributes:
        method: as it is before the search.
        settings: all settings of its final runs; those that are None have their defaults.
        epochs: of the final runs.
        ranges: of the parameters, by name: "lr", "ldrld.depth".
    """

    method: NamedMethod
    settings: Mapping[str, Any]
    epochs: int
    ranges: Mapping[str, Range]

    def at(self, values: Mapping[str, Value], epochs: int) -> tuple[str, dict[str, Any]]:
        """The text of the method and all settings of a run.

        Args:
            values: of the parameters, by name.
            epochs: of the run, into which the whole schedule is compressed.
        """
        settings = at_length(self.settings, epochs, self.epochs)
        return self.text(values, epochs), settings | self.own_settings(values, epochs)

    def own_settings(self, values: Mapping[str, Value], epochs: int) -> dict[str, Any]:
        """The settings among the parameters, with their values for a run of so many epochs."""
        return {name: self._at_length(name, value, epochs) for name, value in values.items() if "." not in name}

    def text(self, values: Mapping[str, Value], epochs: int) -> str:
        """The text of the method in a run of so many epochs."""
        summands = read_summands(self.method.text)
        for prefix, summand, call in calls_in(summands):
            for name in IN_EPOCHS:
                if f"{prefix}.{name}" not in self.ranges and (length := _own_default(summand, call, name)):
                    call.arguments[name] = max(1, in_epochs(length / self.epochs, epochs))
            for name in (own.removeprefix(f"{prefix}.") for own in values if own.startswith(f"{prefix}.")):
                value = self._at_length(f"{prefix}.{name}", values[f"{prefix}.{name}"], epochs)
                if name == "weight" and call.name not in WRAPPERS:
                    summand.weight = float(value)
                else:
                    call.arguments[name] = value
        return write_summands(summands)

    def _at_length(self, name: str, value: Value, epochs: int) -> Value:
        one = self.ranges[name]
        return max(1 if one.low > 0 else 0, in_epochs(float(value), epochs)) if one.fraction else value

    @property
    def defaults(self) -> dict[str, Value]:
        """The values of the first trial."""
        return {name: one.default for name, one in self.ranges.items()}

    def corners(self, *, of_losses: bool) -> Iterator[dict[str, Value]]:
        """The default, and the ends of all ranges in every combination up to a limit.

        Args:
            of_losses: take the parameters of losses and wrappers; otherwise the settings.
        """
        chosen = {name: one for name, one in self.ranges.items() if ("." in name) is of_losses}
        ends = [[(name, end) for end in one.ends] for name, one in chosen.items()]
        yield {name: one.default for name, one in chosen.items()}
        yield from map(dict, itertools.islice(itertools.product(*ends), MOST_CORNERS))


def make_space(
    method: NamedMethod, recipe: Recipe, settings: Mapping[str, Any], entries: Entries, classes: int
) -> Space:
    """The space of a method.

    Args:
        method: its text and its own settings.
        recipe: the settings of its final runs, with their defaults.
        settings: the same as given.
        entries: from :func:`read_spaces`.
        classes: the number of classes.

    Raises:
        InputError: naming the parameter or range that cannot work.
    """
    epochs, flat = recipe.run.epochs, recipe.flat()
    ranges: dict[str, Range | None] = {}
    for name, content in entries[SETTINGS].items():
        ranges[name] = read_range(f"settings: {name}", content, _in_unit(content, flat[name], epochs), classes)
    summands = read_summands(method.text)
    drop_weight = _without_labels(summands)
    for prefix, summand, call in calls_in(summands):
        for name, content in _entry(entries, call.name).items():
            if name == "weight" and call.name not in WRAPPERS and summand is drop_weight:
                continue
            default = _in_unit(content, *_default(summand, call, name, epochs))
            where, written = f"{call.name}: {name}", name in call.arguments
            ranges[f"{prefix}.{name}"] = read_range(where, content, default, classes, written=written)
    found = {name: one for name, one in ranges.items() if one is not None}
    if not found:
        raise InputError(f"method={method.text!r} has no parameter to tune; give space= with ranges for it")
    return Space(method, settings, epochs, found)


def calls_in(summands: list[Summand]) -> Iterator[tuple[str, Summand, Call]]:
    """Every loss and wrapper with the first part of its parameters' names: "kd", and "kd_2" for a second one."""
    used: set[str] = set()
    for summand in summands:
        for call in () if summand.call.name in SUPERVISED else summand.call.chain:
            name = call.name.rpartition(".")[2].lower()
            numbered = (f"{name}_{number}" for number in itertools.count(2))
            prefix = next(one for one in itertools.chain([name], numbered) if one not in used)
            used.add(prefix)
            yield prefix, summand, call


def _without_labels(summands: list[Summand]) -> Summand | None:
    """The first loss of a method without cross-entropy, whose weight would only scale the learning rate."""
    losses = [summand for summand in summands if summand.call.name not in SUPERVISED]
    written = [one.weight for one in summands if one.call.name in SUPERVISED]
    preset = PRESETS.get(losses[0].call.chain[-1].name) if losses else None
    ce = (1.0 if written[0] is None else written[0]) if written else (preset.ce if preset else 1.0)
    return losses[0] if losses and not ce else None


def _default(summand: Summand, call: Call, name: str, epochs: int) -> tuple[Any, int]:
    """A parameter's value where nothing is tuned, and the epochs of the run that it is meant for."""
    if name == "weight" and call.name not in WRAPPERS and summand.weight is not None:
        return summand.weight, epochs
    if name in call.arguments:
        return call.arguments[name], epochs
    return _own_default(summand, call, name), PUBLISHED_EPOCHS


def _own_default(summand: Summand, call: Call, name: str) -> Any:
    """A parameter's value as written, else its default; None where it has none."""
    preset = PRESETS.get(call.name)
    if name == "weight" and call.name not in WRAPPERS:
        return summand.weight if summand.weight is not None else preset.weight if preset else 1.0
    if name in call.arguments:
        return call.arguments[name]
    if name == "warmup" and call.name not in WRAPPERS:
        return preset.warmup if preset else 0
    return _signature(call.name).get(name)


@cache
def _signature(name: str) -> dict[str, Any]:
    """The parameters of a loss or wrapper with their defaults; empty for a loss of the user's own."""
    entry = WRAPPERS.get(name) or PRESETS.get(name)
    return {} if entry is None else {key: one.default for key, one in settings_of(entry.loss).items() if key != "loss"}


def _in_unit(content: object, default: Any, epochs: int) -> Any:
    """A default in the unit of its range: epochs become a fraction of a run."""
    counted = isinstance(content, Mapping) and "fraction" in content
    return default / epochs if counted and isinstance(default, int | float) else default


def _entry(entries: Entries, name: str) -> Mapping[str, Any]:
    return entries.get(name, OWN if "." in name else {})


def read_spaces(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """The default space, with the entries of a user's file in the place of its own.

    Args:
        path: the user's file, or None.

    Raises:
        InputError: it cannot be read, or names a setting, loss or parameter that does not exist.
    """
    entries: dict[str, dict[str, Any]] = copy.deepcopy(_read(DEFAULT_SPACES))
    if path is not None:
        own = _read(path)
        for name, entry in own.items():
            _check_entry(path, name, entry)
        entries |= own
    return entries


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path)
    except OSError as error:
        raise InputError(f"space={path} cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"space={path}: write names of losses with their parameters, such as kd: {{temperature: ...}}")
    return content


def _check_entry(path: Path, name: object, entry: object) -> None:
    """Refuse an entry for a loss or a parameter that does not exist."""
    if not isinstance(entry, dict):
        raise InputError(f"space={path}: {name}: {entry!r} are no parameters; write name: range, or {{}} for none")
    if name == SETTINGS:
        known: Any = PER_METHOD
    elif name in PRESETS or name in WRAPPERS:
        known = [*_signature(str(name)), *(FACTORS if name in PRESETS else ())]
    elif "." in str(name):
        return
    else:
        raise InputError(f"space={path}: there is no loss {name!r}; entries are settings, losses and wrappers")
    for parameter in entry:
        if parameter not in known:
            raise InputError(f"space={path}: {name} has no parameter {parameter!r}; it has {', '.join(known)}")


def check_space(space: Space, label: str, lengths: tuple[int, ...], columns: int, trust: Trust) -> None:
    """Read the method and the settings at every corner of a space and at every length of training.

    Args:
        space: of the method.
        label: of the method, for messages.
        lengths: of the runs, in epochs.
        columns: of the logits.
        trust: which losses may be imported.

    Raises:
        InputError: naming the method and the corner that cannot work.
    """
    origin = trust.of(space.method.text)
    for epochs in lengths:
        for values in space.corners(of_losses=True):
            with _naming(label, values, epochs):
                parse_method(space.text(values, epochs), origin).check(columns, epochs)
        for values in space.corners(of_losses=False):
            with _naming(label, values, epochs):
                make_recipe(
                    "distill", at_length(space.settings, epochs, space.epochs) | space.own_settings(values, epochs)
                )


@contextmanager
def _naming(label: str, values: Mapping[str, Value], epochs: int) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        words = ", ".join(f"{name}={value}" for name, value in values.items())
        raise InputError(f"{label} with {words} and {counted(epochs, 'epoch')}: {error}") from error
