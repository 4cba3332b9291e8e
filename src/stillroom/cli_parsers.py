"""The settings of each command, from the fields of the recipe and their descriptions."""

from __future__ import annotations

from argparse import SUPPRESS

from jsonargparse import ArgumentParser

from stillroom.compare.options import CompareOptions
from stillroom.config import DataOptions, DistillModels, OptimOptions, RunOptions, TrainModel
from stillroom.config_file import ConfigFile


def plain_parser(description: str) -> ArgumentParser:
    """A parser without settings; it raises instead of leaving the process."""
    # Abbreviations are refused, as in Python and in files: a setting has one name.
    return ArgumentParser(description=description, exit_on_error=False, allow_abbrev=False)


def demo_parser() -> ArgumentParser:
    """The settings of ``demo``."""
    parser = plain_parser("Train a teacher and four students on Glyphs-100 and write a page about it.")
    parser.add_argument("--out", type=str, help="folder for runs, page and student; default runs/demo")
    parser.add_argument("--quick", action="store_true", help="the whole thing in under a minute, less accurate")
    parser.add_argument("--seed", type=int, default=0, help="fixes initial weights, order and augmentation")
    return parser


def train_parser() -> ArgumentParser:
    """The settings of ``train``."""
    parser = plain_parser("Train a classifier on labels, for example to get a teacher.")
    _add_recipe(parser, TrainModel)
    return parser


def distill_parser() -> ArgumentParser:
    """The settings of ``distill``."""
    parser = plain_parser("Distil a trained teacher into a student.")
    _add_recipe(parser, DistillModels)
    return parser


def evaluate_parser() -> ArgumentParser:
    """The settings of ``evaluate``."""
    parser = plain_parser("Measure a classifier on the validation images.")
    parser.add_class_arguments(TrainModel)
    parser.add_class_arguments(DataOptions)
    parser.add_argument("--batch_size", type=int, default=256, help="images a step")
    _add_trust(parser)
    return parser


def compare_parser() -> ArgumentParser:
    """The settings of ``compare``."""
    parser = plain_parser("Compare methods: pairs x methods x seeds, trained, tested and shown as tables and a page.")
    _add_config(parser)
    parser.add_class_arguments(CompareOptions)
    for group in (DataOptions, OptimOptions):
        parser.add_class_arguments(group)
    parser.add_class_arguments(RunOptions, skip={"seed", "shard_teacher"})
    return parser


def report_parser() -> ArgumentParser:
    """The settings of ``report``."""
    parser = plain_parser("Write the page about finished runs.")
    parser.add_argument("runs", type=str, nargs="+", help="run folders, or folders that hold them")
    parser.add_argument("--out", type=str, help="the HTML file; default index.html in the first folder")
    parser.add_argument("--reference", type=str, help="the method the others are compared with")
    parser.add_argument("--table", type=str, help="a file for the tables too: .md, .tex, or .csv with a row a run")
    parser.add_argument("--views", type=bool, default=True, help="false leaves out what needs models and images")
    _add_trust(parser)
    return parser


def export_parser() -> ArgumentParser:
    """The settings of ``export``."""
    parser = plain_parser("Turn a finished run's student into files to deploy: safetensors, ONNX, int8, a model card.")
    parser.add_argument("run", type=str, help="a finished run folder")
    parser.add_argument("--out", type=str, help="a new folder; default export/ inside the run folder")
    parser.add_argument("--no_onnx", action="store_true", help="only safetensors, config and card")
    parser.add_argument("--no_int8", action="store_true", help="no quantised ONNX")
    parser.add_argument("--no_latency", action="store_true", help="measure no speed")
    _add_trust(parser)
    return parser


def list_parser() -> ArgumentParser:
    """The settings of ``list``."""
    parser = plain_parser("Show what there is to choose from.")
    parser.add_argument("what", choices=["models", "methods", "data", "recipes"], help="what to list")
    parser.add_argument("name", type=str, nargs="?", default="", help="one method, or a part of the other names")
    for key in ("dataset", "teacher", "student", "method"):
        parser.add_argument(f"--{key}", type=str, default="", help=f"only recipes with this {key}")
    return parser


def _add_recipe(parser: ArgumentParser, models: type) -> None:
    _add_config(parser)
    # What a published recipe says of itself; nothing to set.
    parser.add_argument("--published", type=dict | None, default=None, help=SUPPRESS)
    for group in (models, DataOptions, OptimOptions, RunOptions):
        parser.add_class_arguments(group)


def _add_config(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action=ConfigFile, help="a YAML file with any of these settings; flags win over it")
    _add_trust(parser)


def _add_trust(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="import and fetch the models and methods that files and run folders name; this runs their code",
    )
