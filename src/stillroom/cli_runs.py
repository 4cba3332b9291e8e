"""``stillroom runs``: list run folders, show one, compare some, remove some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from stillroom.cli_output import print_rich
from stillroom.config_file import Arguments
from stillroom.engine.run_folder import RunFolder, trained_model
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.formatting import counted, duration, size_in_words
from stillroom.prepare.name_checks import check_run
from stillroom.report.discovery import FoundRun
from stillroom.report.provenance import command_text
from stillroom.report.run_overview import RunOverview, latest_score, list_runs, overview_of
from stillroom.report.run_settings import AUTOMATIC, changed_settings, differing_values, value_text
from stillroom.run_removal import check_removal, folder_bytes, remove_run
from stillroom.scores import SCORES, score_of

FILES = ("student.safetensors", *(score.file for score in SCORES.values()), "metrics.jsonl", "summary.json",
         "config.yaml", "checkpoint", "tensorboard", "wandb", "export", "probes.json", "index.html")  # fmt: skip


def runs_command(arguments: Arguments) -> int:
    """Carry out one of the four.

    Returns:
        The exit status, 0.
    """
    options = arguments.values
    if options["what"] == "list":
        print_rich(runs_table(list_runs([Path(folder) for folder in options["folders"]], options["sort"])))
        return 0
    paths = list({path.absolute(): path for path in map(Path, options["runs"])}.values())  # each once
    for path in paths:
        check_run("", path)
    if options["what"] == "show":
        for part in run_facts(RunFolder(paths[0])):
            print_rich(part)
    elif options["what"] == "compare":
        for part in side_by_side([RunFolder(path) for path in paths]):
            print_rich(part)
    else:
        _remove(paths, yes=options["yes"], force=options["force"])
    return 0


def runs_table(runs: Sequence[RunOverview]) -> Table:
    """The list of runs; where their tasks differ, the label of the score stands before each number."""
    labels = {one.score.label for one in runs}
    mixed = len(labels) > 1
    table = _table("name", "method", "student", "data", "score" if mixed else labels.pop(), "state", "date")
    for one in runs:
        score = "–" if one.value is None else f"{one.score.label} " * mixed + f"{one.value:.2f}"
        date = one.date.strftime("%Y-%m-%d %H:%M")
        table.add_row(*map(shown, (one.name, one.method, one.student, one.data, score, one.state, date)))
    return table


def run_facts(run: RunFolder) -> list[Table | str]:
    """Everything about one run: what it is, its result, its settings, its files."""
    config, overview = run.config(), overview_of(run.path)
    facts = _table("", "")
    facts.show_header = False
    facts.add_row("run", f"{shown(run.path)}, {overview.state}, {overview.date:%Y-%m-%d %H:%M}")
    facts.add_row("student" if "student" in config else "model", shown(trained_model(config)))
    for name in ("teacher", "method", "data"):
        if config.get(name):
            facts.add_row(name, shown(config[name]))
    for name, value in _results(run).items():
        if name != "state":
            facts.add_row(name, value)
    if command := command_text(run.environment()):
        facts.add_row("command", command)
    for name in FILES:
        if (file := run.path / name).exists():
            size = folder_bytes(file) if file.is_dir() else file.stat().st_size
            facts.add_row("file", f"{shown(file)} ({size_in_words(size)})")
    settings = _table("setting", "value", "default", title="settings that differ from their defaults")
    for row in sorted(changed_settings(config), key=lambda row: row.name in AUTOMATIC):  # what was given comes first
        default = "automatic" if row.name in AUTOMATIC else value_text(row.default)
        settings.add_row(row.name, value_text(row.value), default)
    return [facts, settings]


def side_by_side(runs: Sequence[RunFolder]) -> list[Table | str]:
    """The settings in which runs differ, and their results.

    Raises:
        InputError: there is only one run, or one cannot be read.
    """
    if len(runs) < 2:
        raise InputError("runs compare: give two or more run folders")
    names, configs = [shown(run.path) for run in runs], [run.config() for run in runs]
    found: list[Table | str] = []
    settings = _table("setting", *names, title="settings that differ")
    for name, values in differing_values(configs).items():
        settings.add_row(name, *map(value_text, values))
    found.append(settings if settings.row_count else "The runs have the same settings.")
    results = _table("result", *names, title="results")
    each = [_results(run) for run in runs]
    for name in dict.fromkeys(name for one in each for name in one):
        results.add_row(name, *(one.get(name, "–") for one in each))
    found.append(results)
    contents = [FoundRun(run).contents for run in runs]
    if any(one != contents[0] for one in contents):
        scores = "accuracies" if all(score_of(config).per_image for config in configs) else "scores"
        found.append(f"The runs have other validation images or labels: their {scores} cannot be compared.")
    return found


def _results(run: RunFolder) -> dict[str, str]:
    """The numbers of a run in words; fewer for one that is not finished."""
    score, value = score_of(run.config()), latest_score(run)
    last = "–" if value is None else f"{value:.2f} %"
    found = {"state": overview_of(run.path).state, f"{score.label}, last epoch": last}
    if not run.finished:
        return found
    summary = run.summary()
    numbers = {f"{score.label}, best epoch": summary["best"].get(score.column)}
    numbers |= {f"{one.label}, last epoch": summary["last"].get(one.column) for one in score.further}
    numbers["agreement"] = summary["last"].get("agreement")
    found |= {name: f"{value:.2f} %" for name, value in numbers.items() if value is not None}
    found["parameters"] = f"{summary['parameters']:,}"
    if summary.get("macs") is not None:
        found["operations an image"] = f"{summary['macs'] / 1e6:,.1f} million multiply-accumulates"
    found["training"] = f"{counted(len(run.epochs()), 'epoch')} in {duration(summary['seconds'])}"
    if summary.get("peak_memory_bytes") is not None:
        found["peak memory"] = size_in_words(summary["peak_memory_bytes"])
    return found


def _remove(paths: Sequence[Path], *, yes: bool, force: bool) -> None:
    check_removal(paths, force=force)
    total = size_in_words(sum(map(folder_bytes, paths)))
    if not yes:
        listed = ", ".join(shown(path) for path in paths)
        raise InputError(f"{counted(len(paths), 'run')} of {total} would be removed for good ({listed}); add --yes")
    for path in paths:
        remove_run(path)
        print_rich(f"removed {shown(path)}")


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
