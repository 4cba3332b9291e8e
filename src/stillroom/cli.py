"""The command line: arguments in, one exit status out. PyTorch is imported only when there is work to do."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from stillroom.cli_errors import no_command, plain
from stillroom.cli_parsers import (
    compare_parser,
    demo_parser,
    distill_parser,
    evaluate_parser,
    export_parser,
    list_parser,
    plain_parser,
    report_parser,
    train_parser,
)
from stillroom.compare.options import CompareOptions, names_of
from stillroom.config import make_recipe
from stillroom.config_file import files_first, refuse_fetching, settings_noted, typed
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.files import require_text
from stillroom.formatting import counted
from stillroom.trust import Trust, given

USAGE_ERROR, FAILED = 2, 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when all went well, 1 for a run that failed, 2 for input that cannot be used, 130 or 143 after Ctrl-C or
        SIGTERM (the run is saved).
    """
    asked = files_first(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(asked[0] if asked else "")
    try:
        if not asked or asked[0] not in (*COMMANDS, "-h", "--help", "--version"):
            raise InputError(no_command(asked[0] if asked else "", list(COMMANDS)))
        for before, argument in zip(["", *asked], asked, strict=False):
            require_text(before.lstrip("-") if before.startswith("--") else "argument", argument)
        with settings_noted() as said:
            options = parser.parse_args(asked)
        chosen = options[options.command]
        if "trust" in chosen:
            chosen.said = {name: file for name, file in said.items() if name not in typed(asked)}
        return COMMANDS[options.command].run(chosen)
    except (ArgumentError, InputError) as error:
        return _fail(_in_words(error, asked), USAGE_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of our output went away, as with `| head`
        sys.stderr.close()
        return 0
    except OSError as error:  # a page or a copy that cannot be written, as on a full disk; runs say more themselves
        return _fail(error, FAILED)
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
        allow_abbrev=False,
        version=_version(),
    )
    commands = parser.add_subcommands(required=True, dest="command")

    for name, known in COMMANDS.items():
        commands.add_subcommand(
            name, known.parser() if name == command else plain_parser(known.summary), help=known.summary
        )
    return parser


def _version() -> str:
    from importlib.metadata import version

    return version("stillroom")


def _settings(options: Namespace) -> dict[str, Any]:
    other = ("config", "command", "published", "trust", "said")
    return {key: value for key, value in options.as_dict().items() if key not in other}


def _given(options: Namespace, *settings: str) -> Trust:
    """What a command line permits: the models and methods in its flags are the user's own, those in a file are not."""
    if not options.trust:
        refuse_fetching(options.as_dict(), options.said)
    own = [options[name] for name in settings if name not in options.said]
    return given(own, files=options.trust, source=next((options.said[n] for n in settings if n in options.said), ""))


def _train(options: Namespace) -> int:
    return _run("train", options, _given(options, "model"))


def _distill(options: Namespace) -> int:
    return _run("distill", options, _given(options, "teacher", "student", "method"))


def _run(command: Any, options: Namespace, trust: Trust) -> int:
    recipe = make_recipe(command, _settings(options))
    from stillroom.api import run_recipe
    from stillroom.prepare.fitting import Inputs
    from stillroom.report.runs_table import summary_table
    from stillroom.runtime.reporters import make_reporter

    result = run_recipe(recipe, make_reporter(), Inputs(trust=trust))
    _print(summary_table([result.record]))
    print(f"{result.record.student}")
    return 0


def _evaluate(options: Namespace) -> int:
    from stillroom.api import evaluate

    result = evaluate(**_settings(options), trust=options.trust, say=lambda text: print(text, file=sys.stderr))
    images = counted(result.count, "image")
    print(f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   loss {result.loss:.4f}   {images}")
    return 0


def _compare(options: Namespace) -> int:
    settings = _settings(options)
    chosen = CompareOptions(**{f.name: settings.pop(f.name) for f in dataclasses.fields(CompareOptions)})
    axes = ("teachers", "students", "methods")
    own = names_of(chosen, [axis for axis in axes if axis not in options.said])
    trust = dataclasses.replace(_given(options, *axes), own=frozenset(own))
    from stillroom.compare.run import compare

    result = compare(chosen, settings, trust=trust)
    from stillroom.report.page import write_report
    from stillroom.report.summary import summarize, summary_table, verdict

    with _status() as say:
        pairs = summarize(result.comparison, say)
    for pair in pairs:
        _print(summary_table(pair, result.comparison.reference))
        for line in verdict(pair, result.comparison.reference):
            _print(line)
    if chosen.page:
        page = result.folder / "index.html"
        with _status() as say:
            write_report(page, result.comparison, pairs, say=say)
        print(page.resolve().as_uri())
    for name, problem in result.failed.items():
        print(f"stillroom: {name} failed: {problem}", file=sys.stderr)
    return FAILED if result.failed else 0


def _report(options: Namespace) -> int:
    from pathlib import Path

    from stillroom.report.aggregate import read_comparison
    from stillroom.report.own_files import PAGE, refuse_foreign
    from stillroom.report.page import write_report
    from stillroom.report.summary import left_out, summarize
    from stillroom.report.table_export import check_table, write_table

    folders = [Path(run) for run in options.runs]
    page = Path(options.out) if options.out else folders[0] / "index.html"
    table = Path(options.table) if options.table else None
    refuse_foreign(page, PAGE, "--out")
    if table is not None:
        check_table(table)
    comparison = read_comparison(folders, options.reference, trust=Trust(files=options.trust))
    with _status() as say:
        summaries = summarize(comparison, say)
        if table is not None:
            write_table(table, summaries, comparison.reference)
        write_report(page, comparison, summaries, views=options.views, say=say)
    for one in left_out(comparison, summaries):
        print(f"stillroom: {one.sentence}", file=sys.stderr)
    print(page.resolve().as_uri())
    return 0


def _export(options: Namespace) -> int:
    from pathlib import Path

    from stillroom.engine.run_folder import RunFolder
    from stillroom.export import export

    result = export(
        RunFolder(Path(options.run)),
        Path(options.out) if options.out else None,
        onnx=not options.no_onnx,
        int8=not options.no_int8,
        latency=not options.no_latency,
        trust=options.trust,
        say=lambda text: print(text, file=sys.stderr),
    )
    print(result.folder)
    return 0


def _demo(options: Namespace) -> int:
    from stillroom.demo import demo

    demo(out=options.out, quick=options.quick, seed=options.seed, show=_print)
    return 0


def _list(options: Namespace) -> int:
    from stillroom.cli_list import Filters, listing

    chosen = options.as_dict()
    what = chosen.pop("what")
    _print(listing(what, Filters(**chosen)))
    return 0


def _print(content: Any) -> None:
    from stillroom.runtime.reporters import make_console

    console = make_console(stderr=False)
    if not console.is_terminal:  # a pipe or a file gets whole lines, however long
        console.width = 200
    console.print(content, soft_wrap=isinstance(content, str))


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """A line that says what is being done, for as long as it takes; only where somebody sits before it."""
    from rich.text import Text

    from stillroom.runtime.reporters import make_console

    with make_console(stderr=True).status("") as line:
        yield lambda words: line.update(Text(words))


def _in_words(error: Exception, asked: Sequence[str]) -> str:
    if not isinstance(error, ArgumentError):
        return str(error)
    known = COMMANDS.get(asked[0] if asked else "")
    return plain(str(error), known.parser() if known else ArgumentParser())


def _fail(message: object, status: int) -> int:
    """One line on stderr, whatever the message looked like."""
    text = " ".join(str(message).split()).encode(errors="backslashreplace").decode()  # a path may hold any bytes
    print(f"stillroom: error: {text}", file=sys.stderr)
    return status


class Command(NamedTuple):
    """One word of the command line.

    Attributes:
        parser: makes its settings.
        run: does it and gives the exit status.
        summary: what it does, in a line.
    """

    parser: Callable[[], ArgumentParser]
    run: Callable[[Namespace], int]
    summary: str


COMMANDS = {
    "demo": Command(demo_parser, _demo, "the main job on embedded data: start here"),
    "train": Command(train_parser, _train, "train a classifier on labels"),
    "distill": Command(distill_parser, _distill, "distil a teacher into a student"),
    "compare": Command(compare_parser, _compare, "compare methods over pairs and seeds, with statistics and a page"),
    "report": Command(report_parser, _report, "write the page about finished runs"),
    "export": Command(export_parser, _export, "files to deploy from a finished run: safetensors, ONNX, int8, a card"),
    "evaluate": Command(evaluate_parser, _evaluate, "measure a classifier"),
    "list": Command(list_parser, _list, "show models, methods, data sets or published recipes"),
}

if __name__ == "__main__":
    sys.exit(main())
