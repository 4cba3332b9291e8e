"""The command line: arguments in, one exit status out. PyTorch is imported only when there is work to do."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stillroom.cli_output import evaluation_line, print_error, print_rich, status_line
from stillroom.cli_parsers import (
    Parser,
    compare_parser,
    defaults_of,
    distill_parser,
    evaluate_parser,
    parse_arguments,
    train_parser,
    tune_parser,
)
from stillroom.cli_plain_parsers import (
    completion_parser,
    demo_parser,
    export_parser,
    list_parser,
    pack_parser,
    predict_parser,
    probe_parser,
    report_parser,
    runs_parser,
)
from stillroom.compare.options import CompareOptions, names_of
from stillroom.config_file import Arguments
from stillroom.errors import Diverged, InputError, Stopped, WorkerDied, did_you_mean
from stillroom.extras import require
from stillroom.files import require_text
from stillroom.settings import make_group, settings_in
from stillroom.trust import Trust

USAGE_ERROR, FAILED = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 for success, 1 for a run that failed, 2 for input that cannot be used, 130 or 143 after Ctrl-C or SIGTERM
        (the run is saved).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run_command(words)
    except InputError as error:
        return _fail(error, USAGE_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # as with `| head`
        sys.stderr.close()
        return 0
    except (OSError, Diverged, WorkerDied) as error:  # such as a page that cannot be written
        return _fail(error, FAILED)
    except Stopped as stopped:
        print(f"stillroom: {stopped}", file=sys.stderr)
        return 128 + stopped.signal_number


def _run_command(words: Sequence[str]) -> int:
    for before, word in zip(["", *words], words, strict=False):
        require_text(before.lstrip("-") if before.startswith("--") else "argument", word)
    name = words[0] if words else ""
    if name in ("-h", "--help", "--version"):
        return _introduce(name)
    if name not in COMMANDS:
        raise InputError(_no_command(name))
    command = COMMANDS[name]
    arguments = parse_arguments(command.parser(), name, words[1:])
    if arguments.print_config:
        return _print_config(name, arguments)
    return command.run(arguments)


def _introduce(word: str) -> int:
    """Print the help or the version."""
    from importlib.metadata import version

    if word == "--version":
        print(f"stillroom {version('stillroom')}")
        return 0
    print("usage: stillroom COMMAND [...]\n")
    print("Distil a big image classifier or detector into a small one that keeps its accuracy.\n")
    for name, command in COMMANDS.items():
        print(f"  {name:12}{command.summary}")
    print("\n`stillroom COMMAND --help` shows the settings of a command; `stillroom --version` the version.")
    return 0


def _no_command(name: str) -> str:
    from difflib import get_close_matches

    listed = f"; there are {', '.join(COMMANDS)}"
    if not name or name.startswith("-"):
        return f"the command is missing{listed}"
    return f"there is no command {name!r}{did_you_mean(get_close_matches(name, COMMANDS, n=1), listed)}"


def _print_config(command: str, arguments: Arguments) -> int:
    import yaml

    print(yaml.safe_dump({**defaults_of(command), **arguments.values}, sort_keys=False, allow_unicode=True), end="")
    return 0


def _train(arguments: Arguments) -> int:
    from stillroom.cli_train import train_command

    return train_command("train", arguments)


def _distill(arguments: Arguments) -> int:
    from stillroom.cli_train import train_command

    return train_command("distill", arguments)


def _evaluate(arguments: Arguments) -> int:
    for name in ("model", "data"):
        if name not in arguments.values:
            raise InputError(f"{name} is missing: say which {name} to use")
    from stillroom.api import evaluate

    result = evaluate(**arguments.values, trust=arguments.trust, say=lambda text: print(text, file=sys.stderr))
    print(evaluation_line(result))
    return 0


def _compare(arguments: Arguments) -> int:
    own, typed = settings_in(CompareOptions), arguments.values
    if "tuned" in typed:
        from stillroom.compare.tuned import arguments_with_tuning

        arguments = arguments_with_tuning(arguments)
    chosen = make_group(CompareOptions, arguments.values)
    settings = {k: v for k, v in {**defaults_of("compare"), **arguments.values}.items() if k not in own}
    axes = ("teachers", "students", "methods")
    named = make_group(CompareOptions, arguments.values | typed)  # without the methods of a tuning
    names = names_of(named, [axis for axis in axes if axis not in arguments.files])
    from stillroom.cli_compare import show_comparison
    from stillroom.cli_train import grid_trust

    trust = grid_trust("compare", arguments, axes, names)
    from stillroom.compare.run import compare

    return show_comparison(compare(chosen, settings, trust=trust), page=chosen.page)


def _report(arguments: Arguments) -> int:
    require("stillroom report", "report")
    from pathlib import Path

    from stillroom.data.class_groups import read_groups
    from stillroom.report.aggregate import read_comparison
    from stillroom.report.own_files import PAGE, refuse_foreign
    from stillroom.report.page import write_report
    from stillroom.report.summary import left_out, summarize
    from stillroom.report.table_export import check_table, write_table

    options = arguments.values
    folders = [Path(run) for run in options["runs"]]
    page = Path(options["out"]) if "out" in options else folders[0] / "index.html"
    table = Path(options["table"]) if "table" in options else None
    refuse_foreign(page, PAGE, "--out")
    if table is not None:
        check_table(table)
    groups = read_groups(Path(options["groups"])) if "groups" in options else None
    comparison = read_comparison(folders, options.get("reference"), trust=Trust(files=arguments.trust))
    with status_line() as say:
        summaries = summarize(comparison, say)
        if table is not None:
            write_table(table, summaries, comparison.reference)
        write_report(page, comparison, summaries, views=options["views"] == "true", groups=groups, say=say)
    for one in left_out(comparison, summaries):
        print(f"stillroom: {one.sentence}", file=sys.stderr)
    print(page.resolve().as_uri())
    return 0


def _export(arguments: Arguments) -> int:
    require("stillroom export", "export", ["jinja2", "torchmetrics"])
    from pathlib import Path

    from stillroom.engine.run_folder import RunFolder
    from stillroom.export import export

    options = arguments.values
    result = export(
        RunFolder(Path(options["run"])),
        Path(options["out"]) if "out" in options else None,
        onnx=not options["no_onnx"],
        int8=not options["no_int8"],
        latency=not options["no_latency"],
        trust=arguments.trust,
        say=lambda text: print(text, file=sys.stderr),
    )
    print(result.folder)
    return 0


def _demo(arguments: Arguments) -> int:
    require("stillroom demo", "report")
    from stillroom.demo import demo

    demo(**{"out": None, **arguments.values}, show=print_rich)
    return 0


def _lazy(name: str) -> Callable[[Arguments], int]:
    """The function NAME_command of the module cli_NAME, which is imported when the command is run."""

    def run(arguments: Arguments) -> int:
        status: int = getattr(importlib.import_module(f"stillroom.cli_{name}"), f"{name}_command")(arguments)
        return status

    return run


def _completion(arguments: Arguments) -> int:
    from stillroom.cli_completion import completion_script

    print(completion_script(arguments.values["shell"], {name: command.parser for name, command in COMMANDS.items()}))
    return 0


def _list(arguments: Arguments) -> int:
    from stillroom.cli_list import Filters, listing

    chosen = dict(arguments.values)
    print_rich(listing(chosen.pop("what"), Filters(**chosen)))
    return 0


def _fail(message: object, status: int) -> int:
    """Print an error and return the exit status."""
    print_error(f"error: {message}")
    return status


class Command(NamedTuple):
    """A command.

    Attributes:
        parser: makes its arguments.
        run: executes it and returns the exit status.
        summary: what it does, in a line.
    """

    parser: Callable[[], Parser]
    run: Callable[[Arguments], int]
    summary: str


COMMANDS = {
    "demo": Command(demo_parser, _demo, "start here: a teacher and four students on built-in data, with a page"),
    "train": Command(train_parser, _train, "train a classifier or detector on labels"),
    "distill": Command(distill_parser, _distill, "distil a teacher into a student"),
    "compare": Command(compare_parser, _compare, "compare methods over models and seeds, with statistics and a page"),
    "tune": Command(
        tune_parser, _lazy("tune"), "give every method the same budget of trials, and compare what they find"
    ),
    "report": Command(report_parser, _report, "write a page about finished runs"),
    "probe": Command(probe_parser, _lazy("probe"), "measure transfer, calibration and more of finished runs"),
    "export": Command(export_parser, _export, "turn a finished run into files to deploy, ONNX among them"),
    "evaluate": Command(evaluate_parser, _evaluate, "measure a classifier or detector on validation images"),
    "predict": Command(predict_parser, _lazy("predict"), "show the classes that a model finds in image files"),
    "pack": Command(pack_parser, _lazy("pack"), "pack a large set of images into shards that are read faster"),
    "runs": Command(runs_parser, _lazy("runs"), "list, show, compare or remove run folders"),
    "list": Command(list_parser, _list, "show models, methods, data sets or published recipes"),
    "completion": Command(completion_parser, _completion, "print a script that completes commands in a shell"),
}

if __name__ == "__main__":
    sys.exit(main())
