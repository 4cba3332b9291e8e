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
    asked = sys.argv[1:] if arguments is None else arguments
    parser = make_parser(asked[0] if asked else "")
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


def make_parser(command: str) -> ArgumentParser:
    """The command line, from the recipe's fields and their descriptions.

    Args:
        command: only this command gets its settings, for making all of them takes half a second.
    """
    parser = ArgumentParser(
        prog="stillroom",
        description="Distil a big image classifier into a small one that keeps its accuracy.",
        exit_on_error=False,
        version=_version(),
    )
    commands = parser.add_subcommands(required=True, dest="command")

    for name, (make, summary) in PARSERS.items():
        commands.add_subcommand(name, make() if name == command else _sub(summary), help=summary)
    return parser


def _sub(description: str) -> ArgumentParser:
    return ArgumentParser(description=description, exit_on_error=False)


def _demo_parser() -> ArgumentParser:
    parser = _sub("Train a teacher and four students on Glyphs-100 and write a page about it.")
    parser.add_argument("--out", type=str, help="folder for runs, page and student; default runs/demo")
    parser.add_argument("--quick", action="store_true", help="the whole thing in under a minute, less accurate")
    parser.add_argument("--seed", type=int, default=0, help="fixes initial weights, order and augmentation")
    return parser


def _train_parser() -> ArgumentParser:
    parser = _sub("Train a classifier on labels, for example to get a teacher.")
    _add_recipe(parser, TrainModel)
    return parser


def _distill_parser() -> ArgumentParser:
    parser = _sub("Distil a trained teacher into a student.")
    _add_recipe(parser, DistillModels)
    return parser


def _evaluate_parser() -> ArgumentParser:
    parser = _sub("Measure a classifier on the validation pictures.")
    parser.add_class_arguments(TrainModel)
    parser.add_class_arguments(DataOptions)
    parser.add_argument("--batch_size", type=int, default=256, help="pictures a step")
    return parser


def _list_parser() -> ArgumentParser:
    parser = _sub("Show what there is to choose from.")
    parser.add_argument("what", choices=["models", "methods", "data", "recipes"], help="what to list")
    parser.add_argument("name", type=str, nargs="?", default="", help="one method, or a part of the other names")
    for key in ("dataset", "teacher", "student", "method"):
        parser.add_argument(f"--{key}", type=str, default="", help=f"only recipes with this {key}")
    return parser


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


PARSERS: dict[str, tuple[Callable[[], ArgumentParser], str]] = {
    "demo": (_demo_parser, "the main job on embedded data: start here"),
    "train": (_train_parser, "train a classifier on labels"),
    "distill": (_distill_parser, "distil a teacher into a student"),
    "evaluate": (_evaluate_parser, "measure a classifier"),
    "list": (_list_parser, "show models, methods, data sets or published recipes"),
}

COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "demo": _demo,
    "train": _train,
    "distill": _distill,
    "evaluate": _evaluate,
    "list": _list,
}

if __name__ == "__main__":
    sys.exit(main())
