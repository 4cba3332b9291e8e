"""``stillroom tune``: search the best values of every method, and compare the winners."""

from __future__ import annotations

import sys

from rich.table import Table

from stillroom.cli_compare import show_comparison
from stillroom.cli_output import print_rich
from stillroom.cli_parsers import defaults_of
from stillroom.cli_train import grid_trust
from stillroom.compare.options import names_of
from stillroom.config_file import Arguments
from stillroom.formatting import counted
from stillroom.report.tuning_record import Tuning
from stillroom.settings import make_group, settings_in
from stillroom.tune.rungs import budget_in_words
from stillroom.tune.tune import tune
from stillroom.tune.tune_options import TuneOptions, compare_options

AXES = {"teacher": "teachers", "student": "students", "methods": "methods"}  # and what a comparison calls them


def tune_command(arguments: Arguments) -> int:
    """Tune, or print what it would cost.

    Returns:
        The exit status: 1 where a run failed.
    """
    own = settings_in(TuneOptions)
    options = make_group(TuneOptions, arguments.values)
    settings = {k: v for k, v in {**defaults_of("tune"), **arguments.values}.items() if k not in own}
    if arguments.dry_run:
        for line in budget_in_words(options, settings["epochs"]):
            print(line)
        return 0
    names = names_of(compare_options(options), [axis for name, axis in AXES.items() if name not in arguments.files])
    result = tune(options, settings, trust=grid_trust("tune", arguments, AXES, names))
    for name, problem in result.failed.items():
        print(f"stillroom: {name} failed: {problem}", file=sys.stderr)
    if result.compared is None:
        print("stillroom: the search is not complete; the same command repeats the failed runs", file=sys.stderr)
        return 1
    print_rich(winners_table(result.tuning))
    return show_comparison(result.compared, page=options.page)


def winners_table(tuning: Tuning) -> Table:
    """The winner of each method, with its score on the held-out images."""
    longest = tuning.budget.rungs[-1]
    table = Table(title=f"Winners of {counted(tuning.budget.trials, 'trial')}, on held-out training images")
    for name in ("method", "found by the search", "trial", "score"):
        table.add_column(name, justify="right" if name in ("trial", "score") else "left")
    for label, winner in tuning.winners.items():
        own = ", ".join(f"{name}={value}" for name, value in winner.settings.items())
        table.add_row(label, f"{winner.text}  {own}", f"{winner.trial}", f"{winner.score:.2f} %")
    table.caption = " ".join([f"After {counted(longest, 'epoch')}.", *(caution.reason for caution in tuning.cautions)])
    return table
