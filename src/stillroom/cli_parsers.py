"""The arguments of each command, from the descriptions of the settings."""

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
}
LEFT_OUT = {
    "compare": AXES | {"shard_teacher"},  # a run of a comparison has one process
    "evaluate": {"new_head"},  # it would predict at random
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
    trust, print_config = bool(typed.pop("trust", False)), bool(typed.pop("print_config", False))
    if command not in GROUPS:
        return Arguments(typed, trust=trust)
    arguments = with_files(typed, typed.pop("config", []), trust=trust)
    arguments.print_config = print_config
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


def demo_parser() -> Parser:
    """The arguments of ``demo``."""
    parser = Parser(prog="stillroom demo", description="Train a teacher and four students on Glyphs-100 and write a "
                    "page that compares them.")  # fmt: skip
    parser.add_argument("--out", help="folder for runs, page and student (default: runs/demo)")
    parser.add_argument("--quick", action="store_true", help="less data, fewer epochs: under a minute, less accurate")
    parser.add_argument("--seed", type=int, default=0, help="fixes initial weights, order, augmentation (default: 0)")
    return parser


def train_parser() -> Parser:
    """The arguments of ``train``."""
    return _settings_parser("train", "Train a classifier on labels, for example to obtain a teacher.")


def distill_parser() -> Parser:
    """The arguments of ``distill``."""
    return _settings_parser("distill", "Distil a trained teacher into a student.")


def evaluate_parser() -> Parser:
    """The arguments of ``evaluate``."""
    return _settings_parser("evaluate", "Measure a classifier on the validation images.", config=False)


def compare_parser() -> Parser:
    """The arguments of ``compare``."""
    return _settings_parser("compare", "Compare methods: train every teacher, student, method and seed, test the "
                            "differences, and show them as tables and a page.")  # fmt: skip


def report_parser() -> Parser:
    """The arguments of ``report``."""
    parser = Parser(prog="stillroom report", description="Write the page about finished runs.")
    parser.add_argument("runs", metavar="RUNS", nargs="+", help="run folders, or folders that contain them")
    parser.add_argument("--out", help="the HTML file (default: index.html in the first folder)")
    parser.add_argument("--reference", help="method that the others are compared with (default: kd, else ce)")
    parser.add_argument("--table", help="also write the tables to this file: .md, .tex, or .csv with one row per run")
    parser.add_argument("--views", choices=["true", "false"], default="true",
                        help="false leaves out what needs models and images (default: true)")  # fmt: skip
    _add_trust(parser)
    return parser


def export_parser() -> Parser:
    """The arguments of ``export``."""
    parser = Parser(prog="stillroom export", description="Turn a finished run's student into files to deploy: "
                    "safetensors, ONNX, int8, a model card.")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--out", help="a new folder (default: export/ in the run folder)")
    parser.add_argument("--no_onnx", action="store_true", help="only safetensors, configuration and model card")
    parser.add_argument("--no_int8", action="store_true", help="no quantised ONNX")
    parser.add_argument("--no_latency", action="store_true", help="do not measure speed")
    _add_trust(parser)
    return parser


def predict_parser() -> Parser:
    """The arguments of ``predict``."""
    parser = Parser(prog="stillroom predict", description="Show the classes that a model finds in image files, with "
                    "their probabilities. Exit status 1 means that an image cannot be read.")  # fmt: skip
    parser.add_argument("model", metavar="MODEL",
                        help="folder of a finished run, folder or ONNX file of an export, efficientnet-lite0, "
                        "timm:NAME or torchvision:NAME")  # fmt: skip
    parser.add_argument("images", metavar="IMAGES", nargs="+",
                        help="image files, and folders that stand for all images in them and below")  # fmt: skip
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes of each image (default: 5)")
    parser.add_argument("--format", choices=["table", "csv"], default="table",
                        help="csv has a row for each image and class, with unrounded probabilities (default: table)",
                        )  # fmt: skip
    parser.add_argument("--batch_size", type=int, default=64, metavar="N", help="images in a step (default: 64)")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "cuda", "mps"], default="auto",
                        help="device to compute on (default: auto)")  # fmt: skip
    parser.add_argument("--precision", choices=["auto", "32", "bf16"], default="32",
                        help="32 (float32), bf16 (autocast), or auto: bf16 where the processor computes in it "
                        "(default: 32)")  # fmt: skip
    parser.add_argument("--checkpoint", metavar="FILE",
                        help="weights for a timm or torchvision model, or in the place of a run's own")  # fmt: skip
    parser.add_argument("--pretrained", choices=["true", "false"],
                        help="use the published weights of a timm or torchvision model (default: false)")  # fmt: skip
    parser.add_argument("--class_names", metavar="FILE",
                        help="names of the classes in the model's order: one a line, or a JSON or YAML list or mapping "
                        "from index to name. Default: the model's own, else numbers")  # fmt: skip
    _add_trust(parser)
    return parser


def pack_parser() -> Parser:
    """The arguments of ``pack``."""
    parser = Parser(prog="stillroom pack", description="Pack images into Arrow shards, which are read faster than "
                    "files. A pack that was killed continues with the same command.",
                    usage="stillroom pack SRC DEST [--NAME VALUE ...]\n       stillroom pack --check DEST")  # fmt: skip
    parser.add_argument("folders", metavar="FOLDER", nargs="+",
                        help="SRC, a set in any layout that --data takes, and DEST, a new folder")  # fmt: skip
    parser.add_argument("--size", type=int, default=256, metavar="N",
                        help="shorter side in pixels; smaller images are not enlarged (default: 256)")  # fmt: skip
    parser.add_argument("--quality", type=int, default=90, metavar="N", help="of the JPEG files (default: 90)")
    parser.add_argument("--keep_bytes", action="store_true", help="keep the image files as they are")
    parser.add_argument("--shard_mb", type=int, default=256, metavar="N",
                        help="size of a shard in megabytes, about (default: 256)")  # fmt: skip
    parser.add_argument("--class_depth", type=int, default=1, metavar="N",
                        help="levels below SRC or its splits at which the class folders are (default: 1)")  # fmt: skip
    parser.add_argument("--skip_broken", type=float, default=0.0, metavar="X",
                        help="fraction of unreadable images to leave out (default: 0.0)")  # fmt: skip
    parser.add_argument("--jobs", type=int, metavar="N", help="processes; no effect on the result (default: all cores)")
    parser.add_argument("--check", action="store_true",
                        help="compare the given folder with its manifest; exit status 1 if they differ")  # fmt: skip
    return parser


def list_parser() -> Parser:
    """The arguments of ``list``."""
    parser = Parser(prog="stillroom list", description="Show what there is to choose from.")
    parser.add_argument("what", metavar="WHAT", help="models, methods, data or recipes")
    parser.add_argument("name", metavar="NAME", nargs="?", default="",
                        help="one method, described in full; elsewhere, part of the name")  # fmt: skip
    for key in ("dataset", "teacher", "student", "method"):
        parser.add_argument(f"--{key}", default="", help=f"only recipes with this {key}")
    return parser


def _settings_parser(command: str, description: str, *, config: bool = True) -> Parser:
    known, defaults, kinds = settings_of_command(command), defaults_of(command), kinds_of(command)
    required = " ".join(f"--{name} {name.upper()}" for name in known if name not in defaults)
    parser = Parser(prog=f"stillroom {command}", description=description,
                    usage=f"stillroom {command} {required} [--NAME VALUE ...]")  # fmt: skip
    if config:
        parser.add_argument("--config", action="append", metavar="FILE",
                            help="YAML file with any of these settings; settings on the command line win")  # fmt: skip
        parser.add_argument("--print_config", action="store_true", help="print all settings and stop")
    _add_trust(parser)
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


def _add_trust(parser: Parser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import and fetch the models and methods that files and run folders name; this runs their code",
    )


def _unknown(word: str, parser: Parser) -> str:
    """The message for a word that belongs to no argument."""
    if not word.startswith("--"):
        return f"{word} belongs to no argument; write --NAME VALUE; --help shows the names"
    name = word[2:].partition("=")[0]
    options: Mapping[str, Any] = parser._option_string_actions
    close = difflib.get_close_matches(f"--{name.replace('-', '_')}", options, n=1)
    return f"there is no argument --{name}{did_you_mean(close, '; --help shows them all')}"
