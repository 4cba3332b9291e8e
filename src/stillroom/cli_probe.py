"""``stillroom probe``: measure finished students beyond validation accuracy, and print a table for each probe."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_type_hints

from rich.table import Table

from stillroom.cli_output import print_error, print_rich, status_line
from stillroom.config_file import Arguments
from stillroom.files import shown
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.run_probes import probe_runs
from stillroom.report.page_tables import PageTable
from stillroom.report.probe_tables import probe_tables, probes_of
from stillroom.settings import as_kind, make_group
from stillroom.trust import Trust


def probe_command(arguments: Arguments) -> int:
    """Measure what is not recorded yet, and print the tables of the chosen probes on stdout.

    Returns:
        The exit status: 1 if something could not be measured, else 0.
    """
    values, kinds = arguments.values, get_type_hints(ProbeOptions)
    named = {field.name for field in dataclasses.fields(ProbeOptions)}
    options = make_group(ProbeOptions, {k: as_kind(k, v, kinds[k], text=True) for k, v in values.items() if k in named})
    missing: list[str] = []
    with status_line() as say:
        comparison = probe_runs(
            [Path(run) for run in values["runs"]], options, trust=Trust(files=arguments.trust), say=say,
            note=missing.append,
        )  # fmt: skip
    for pair in comparison.pairs:
        probes = probes_of(pair)
        for table in probe_tables(pair, probes, comparison.reference, options.chosen):
            print_rich(rich_table(table, pair.name))
    for why in missing:
        print_error(why)
    return int(bool(missing))


def rich_table(table: PageTable, pair: str) -> Table:
    """A table of the page for a terminal."""
    made = Table(title=shown(f"{table.caption}, {pair}"), title_justify="left")
    made.add_column("method")
    for column in table.columns:
        made.add_column(column.head, justify="right", no_wrap=True)
    for row in table.rows:
        made.add_row(shown(row.name), *(entry.text for entry in row.entries))
    return made
