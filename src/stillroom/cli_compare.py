"""The tables, the verdict and the page of a comparison, for ``stillroom compare`` and ``stillroom tune``."""

from __future__ import annotations

import sys

from stillroom.cli_output import print_rich, status_line
from stillroom.compare.run import Compared
from stillroom.report.comparison_table import comparison_table
from stillroom.report.page import write_report
from stillroom.report.summary import summarize
from stillroom.report.verdict import verdict


def show_comparison(result: Compared, *, page: bool) -> int:
    """Print the tables and the verdict, and write the page.

    Args:
        result: of the comparison.
        page: whether to write the page.

    Returns:
        The exit status: 1 where a run failed.
    """
    with status_line() as say:
        pairs = summarize(result.comparison, say)
    for pair in pairs:
        print_rich(comparison_table(pair, result.comparison.reference))
        for line in verdict(pair, result.comparison.reference):
            print_rich(line)
    if page:
        path = result.folder / "index.html"
        with status_line() as say:
            write_report(path, result.comparison, pairs, say=say)
        print(path.resolve().as_uri())
    for name, problem in result.failed.items():
        print(f"stillroom: {name} failed: {problem}", file=sys.stderr)
    return 1 if result.failed else 0
