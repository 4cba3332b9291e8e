from __future__ import annotations

import pytest

from stillroom.cli_compare import show_comparison
from stillroom.compare.run import Compared
from stillroom.report.aggregate import Comparison


@pytest.mark.parametrize(("failed", "status"), [({}, 0), ({"kd-s1": "Diverged: loss is nan"}, 1)])
def test_failed_runs_are_named_and_decide_the_exit_status(tmp_path, capsys, failed, status):
    result = Compared(tmp_path, Comparison("title", (), "", ()), failed)
    assert show_comparison(result, page=False) == status
    assert capsys.readouterr().err == "".join(f"stillroom: {name} failed: {why}\n" for name, why in failed.items())
    assert not any(tmp_path.iterdir())
