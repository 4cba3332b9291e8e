"""The command line: arguments in, one exit status out. PyTorch is imported only when there is work to do."""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from stillroom.config import DataOptions, DistillModels, OptimOptions, RunOptions, TrainModel, make_recipe
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.wording import plain

USAGE_ERROR, FAILED = 2, 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 for a run that failed, 2 for input that cannot be used, 130 or 143 after Ctrl-C or
        SIGTERM (the run is saved).
    """
    parser = make_parser()
    try:
        options = parser.parse_args(arguments)
        return COMMANDS[options.command](options[options.command])
    except (ArgumentError, InputError) as error:
        return _fail(plain(str(error)), USAGE_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        sys.stderr.close()
        return 0
    except Diverged as error:
        return _fail(error, FAILED)
    except Stopped as stopped:
        print(f"stillroom: {stopped}", file=sys.stderr)
        return 128 + stopped.signal_number


def make_parser() -> ArgumentParser:
    """The whole command line, from the recipe's fields and their descriptions."""
    parser = ArgumentParser(
        prog="stillroom",
        description="Distil a big image classifier into a small one that keeps its accuracy.",
        exit_on_error=False,
        version=_version(),
    )
    commands = parser.add_subcommands(required=True, dest="command")

    demo = _sub("Train a teacher and four students on Glyphs-100 and write a page about it.")
    demo.add_argument("--out", type=str, help="folder for runs, page and student; default runs/demo")
    demo.add_argument("--quick", action="store_true", help="the whole thing in under a minute, less accurate")
    demo.add_argument("--seed", type=int, default=0, help="fixes initial weights, order and augmentation")
    commands.add_subcommand("demo", demo, help="the main job on embedded data: start here")

    train = _sub("Train a classifier on labels, for example to get a teacher.")
    _add_recipe(train, TrainModel)
    commands.add_subcommand("train", train, help="train a classifier on labels")

    distill = _sub("Distil a trained teacher into a student.")
    _add_recipe(distill, DistillModels)
    commands.add_subcommand("distill", distill, help="distil a teacher into a student")

    evaluate = _sub("Measure a classifier on the validation pictures.")
    evaluate.add_class_arguments(TrainModel)
    evaluate.add_class_arguments(DataOptions)
    evaluate.add_argument("--batch_size", type=int, default=256, help="pictures a step")
    commands.add_subcommand("evaluate", evaluate, help="measure a classifier")

    listing = _sub("Show what there is to choose from.")
    listing.add_argument("what", choices=["models", "methods", "data", "recipes"], help="what to list")
    listing.add_argument("name", type=str, nargs="?", default="", help="one method, or a part of the other names")
    for key in ("dataset", "teacher", "student", "method"):
        listing.add_argument(f"--{key}", type=str, default="", help=f"only recipes with this {key}")
    commands.add_subcommand("list", listing, help="show models, methods, data sets or published recipes")
    return parser


def _sub(description: str) -> ArgumentParser:
    return ArgumentParser(description=description, exit_on_error=False)


def _add_recipe(parser: ArgumentParser, models: type) -> None:
    parser.add_argument("--config", action="config", help="a YAML file with any of these settings; flags win over it")
    # What a published recipe says of itself; nothing to set.
    parser.add_argument("--published", type=dict | None, default=None, help=SUPPRESS)
    for group in (models, DataOptions, OptimOptions, RunOptions):
        parser.add_class_arguments(group)


def _version() -> str:
    from importlib.metadata import version

    return version("stillroom")


def _settings(options: Namespace) -> dict[str, Any]:
    return {key: value for key, value in options.as_dict().items() if key not in ("config", "command", "published")}


def _train(options: Namespace) -> int:
    return _run("train", options)


def _distill(options: Namespace) -> int:
    return _run("distill", options)


def _run(command: Any, options: Namespace) -> int:
    recipe = make_recipe(command, _settings(options))
    from stillroom.api import run_recipe
    from stillroom.engine.progress import make_reporter
    from stillroom.report.table import summary_table

    result = run_recipe(recipe, make_reporter())
    _print(summary_table([result.record]))
    print(f"{result.record.student}")
    return 0


def _evaluate(options: Namespace) -> int:
    from stillroom.api import evaluate

    result = evaluate(**_settings(options))
    print(f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   loss {result.loss:.4f}   {result.count} pictures")
    return 0


def _demo(options: Namespace) -> int:
    from stillroom.demo import demo

    demo(out=options.out, quick=options.quick, seed=options.seed, show=_print)
    return 0


def _list(options: Namespace) -> int:
    from stillroom.report.listing import Filters, listing

    chosen = options.as_dict()
    what = chosen.pop("what")
    _print(listing(what, Filters(**chosen)))
    return 0


def _print(content: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # a pipe or a file gets whole lines, however long
        console = Console(width=200)
    console.print(content, soft_wrap=isinstance(content, str))


def _fail(message: object, status: int) -> int:
    """One line on stderr, whatever the message looked like."""
    text = " ".join(str(message).split())
    print(f"stillroom: error: {text}", file=sys.stderr)
    return status


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "demo": _demo,
    "train": _train,
    "distill": _distill,
    "evaluate": _evaluate,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
