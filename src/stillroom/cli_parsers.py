"""The arguments of the commands that have settings, from the descriptions of the settings."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, get_origin, get_type_hints

from stillroom.compare.options import CompareOptions
from stillroom.config import (
    AXES,
    DataOptions,
    DistillModels,
    LaunchOptions,
    OptimOptions,
    RemoteOptions,
    RunOptions,
    TeacherOptions,
    TrainModel,
    refuse_unknown,
)
from stillroom.config_file import Arguments, with_files
from stillroom.errors import InputError, did_you_mean
from stillroom.recipes import with_recipe
from stillroom.settings import Setting, as_kind, described, in_words, members, setting, settings_in
from stillroom.tune.tune_options import TuneOptions


@described
@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The measurement."""

    batch_size: int = setting("images in a step", 256, at_least=1)
    class_map: str = setting(
        "how the classes of a pretrained model become those of the data, as for `stillroom distill`", "auto", path=True
    )
    unmapped: Literal["refuse", "lowest"] = setting(
        "what to do with a class of the data that a pretrained model does not have, as for `stillroom distill`",
        "refuse")  # fmt: skip


# Command -> the dataclasses that hold its settings.
GROUPS: dict[str, tuple[type, ...]] = {
    "train": (TrainModel, DataOptions, OptimOptions, RunOptions, LaunchOptions),
    "distill": (
        DistillModels,
        TeacherOptions,
        RemoteOptions,
        DataOptions,
        OptimOptions,
        RunOptions,
        LaunchOptions,
    ),
    "evaluate": (TrainModel, DataOptions, EvaluateOptions),
    "compare": (CompareOptions, TeacherOptions, RemoteOptions, DataOptions, OptimOptions, RunOptions),
    "tune": (TuneOptions, TeacherOptions, RemoteOptions, DataOptions, OptimOptions, RunOptions),
}
LEFT_OUT = {
    "compare": AXES | {"shard_teacher"},  # a run of a comparison has one process
    "tune": {"seed", "shard_teacher"},  # the trials have seed 0, the final runs those of seeds
    "evaluate": {"new_head"},  # it would predict at random
}

DRY_RUNS = {
    **dict.fromkeys(("train", "distill"), "check everything, time a few steps, print what would happen, and stop"),
    "tune": "print the numbers of trials, runs and epochs, and stop",
}


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving the process, and takes no abbreviations: a setting has one name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message}; --help explains")


def parse_arguments(parser: Parser, command: str, words: Sequence[str]) -> Arguments:
    """Read the words behind a command, and the files that they name.

    Raises:
        InputError: naming the argument, its value and the fix.
    """
    found, rest = parser.parse_known_args(words)
    if rest:
        raise InputError(_unknown(rest[0], parser))
    typed = {name: value for name, value in vars(found).items() if value is not None}
    trust, print_config, dry_run = (bool(typed.pop(name, False)) for name in ("trust", "print_config", "dry_run"))
    if command not in GROUPS:
        return Arguments(typed, trust=trust)
    arguments = with_files(typed, typed.pop("config", []), trust=trust)
    arguments.print_config, arguments.dry_run = print_config, dry_run
    arguments.values.pop("published", None)  # the reported result in a published recipe
    arguments.files.pop("published", None)
    kinds = kinds_of(command)
    arguments.values = with_recipe(arguments.values, kinds)
    refuse_unknown(arguments.values, kinds)
    arguments.values = {name: as_kind(name, v, kinds[name], text=True) for name, v in arguments.values.items()}
    return arguments


def settings_of_command(command: str) -> dict[str, Setting]:
    """The descriptions of a command's settings, by name."""
    found = settings_in(*GROUPS[command])
    return {name: known for name, known in found.items() if name not in LEFT_OUT.get(command, ())}


def kinds_of(command: str) -> dict[str, Any]:
    """The types of a command's settings, by name."""
    kinds = {name: kind for group in GROUPS[command] for name, kind in get_type_hints(group).items()}
    return {name: kinds[name] for name in settings_of_command(command)}


def defaults_of(command: str) -> dict[str, Any]:
    """The defaults of a command's settings, by name; those that must be given are left out."""
    defaults = {f.name: f.default for group in GROUPS[command] for f in dataclasses.fields(group)}
    return {name: defaults[name] for name in kinds_of(command) if defaults[name] is not dataclasses.MISSING}


def train_parser() -> Parser:
    """The arguments of ``train``."""
    return _settings_parser("train", "Train a classifier or a detector on labels, for example to obtain a teacher.")


def distill_parser() -> Parser:
    """The arguments of ``distill``."""
    return _settings_parser("distill", "Distil a trained teacher into a student.")


def evaluate_parser() -> Parser:
    """The arguments of ``evaluate``."""
    return _settings_parser("evaluate", "Measure a classifier or a detector on the validation images.", config=False)


def compare_parser() -> Parser:
    """The arguments of ``compare``."""
    return _settings_parser("compare", "Compare methods: train every teacher, student, method and seed, test the "
                            "differences, and show them as tables and a page.")  # fmt: skip


def tune_parser() -> Parser:
    """The arguments of ``tune``."""
    return _settings_parser("tune", "Give every method the same budget of trials on held-out training images, and "
                            "compare the winners, trained with other seeds on all training images.")  # fmt: skip


def _settings_parser(command: str, description: str, *, config: bool = True) -> Parser:
    known, defaults, kinds = settings_of_command(command), defaults_of(command), kinds_of(command)
    required = " ".join(f"--{name} {name.upper()}" for name in known if name not in defaults)
    parser = Parser(prog=f"stillroom {command}", description=description,
                    usage=f"stillroom {command} {required} [--NAME VALUE ...]")  # fmt: skip
    if config:
        parser.add_argument("--config", action="append", metavar="FILE",
                            help="YAML file with any of these settings; settings on the command line win")  # fmt: skip
        parser.add_argument("--print_config", action="store_true", help="print all settings and stop")
    if command in DRY_RUNS:
        parser.add_argument("--dry_run", action="store_true", help=DRY_RUNS[command])
    add_trust(parser)
    for group in GROUPS[command]:
        section = parser.add_argument_group(str(group.__doc__).splitlines()[0].rstrip("."))
        for name in settings_in(group):
            if name in known:
                text = _help(known[name].help, defaults.get(name, dataclasses.MISSING))
                section.add_argument(f"--{name}", metavar=_metavar(name, kinds[name]), help=text)
    return parser


def _metavar(name: str, kind: Any) -> str:
    """The placeholder of a value in the help: its choices, or a word for its type."""
    first = members(kind)[0]
    choices = in_words(first).split(" or ") if first is bool or get_origin(first) is Literal else []
    words = {int: "N", float: "X", list[int]: "[N, ...]", list[float]: "[X, ...]"}
    return f"{{{','.join(choices)}}}" if choices else words.get(first, name.upper())


def _help(meaning: str, default: Any) -> str:
    """A setting's meaning with its default, in the form that argparse formats."""
    if default is dataclasses.MISSING:
        ending = " (required)"
    elif default is None:
        ending = ""
    else:
        ending = f" (default: {str(default).lower() if isinstance(default, bool) else default})"
    return (meaning + ending).replace("%", "%%")


def add_trust(parser: Parser) -> None:
    """Add ``--trust``."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import and fetch the models, methods and loggers that files and run folders name; this runs their code",
    )


def _unknown(word: str, parser: Parser) -> str:
    """The message for a word that belongs to no argument."""
    if not word.startswith("--"):
        return f"{word} belongs to no argument; write --NAME VALUE; --help shows the names"
    name = word[2:].partition("=")[0]
    options: Mapping[str, Any] = parser._option_string_actions
    close = difflib.get_close_matches(f"--{name.replace('-', '_')}", options, n=1)
    return f"there is no argument --{name}{did_you_mean(close, '; --help shows them all')}"
