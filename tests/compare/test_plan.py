from __future__ import annotations

from stillroom.compare.grid import Cell, Grid
from stillroom.compare.plan import is_done


class Diverged(Grid):
    def has_diverged(self, cell):
        return cell.name == "diverged"


def test_a_run_that_diverged_is_done_where_the_plan_says_so(tmp_path):
    cells = [Cell(name, "distill", {"epochs": 3, "runs": str(tmp_path)}) for name in ("diverged", "new")]
    assert [is_done(Diverged(tmp_path, tuple(cells), {}), cell) for cell in cells] == [True, False]
    grid = Grid(tmp_path, tuple(cells), {})
    assert not any(is_done(grid, cell) for cell in cells)
    assert (grid.run_count, grid.epoch_count, grid.more()) == (2, 6, ())
