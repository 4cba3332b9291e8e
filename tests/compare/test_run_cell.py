from __future__ import annotations

from stillroom.compare.run_cell import _printing_to


def test_a_log_that_is_a_link_leads_nowhere(tmp_path):
    """In a comparison from elsewhere it may point at any file of the user's."""
    mine, log = tmp_path / "mine", tmp_path / "logs" / "kd-s0.log"
    mine.write_text("dear")
    log.parent.mkdir()
    log.symlink_to(mine)
    with _printing_to(log):
        print("more")
    assert mine.read_text() == "dear"
    assert log.is_file()
    assert not log.is_symlink()
