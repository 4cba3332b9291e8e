from __future__ import annotations

import pytest

from stillroom.compare.carry_out import alone_in, stopped_in
from stillroom.errors import InputError
from stillroom.runtime.signals import StopRequest


def test_a_folder_is_held_by_one_process_and_an_empty_one_does_not_stay(tmp_path):
    with alone_in(tmp_path / "c"):
        assert (tmp_path / "c").is_dir()
        with pytest.raises(InputError, match="in use"), alone_in(tmp_path / "c"):
            pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"cannot be created.*choose another runs= folder"),
        alone_in(tmp_path / "file"),
    ):
        pass


def test_a_stop_names_the_runs_that_could_not_save_themselves(tmp_path):
    stop = StopRequest(15)
    assert "everything is saved in" in str(stopped_in(tmp_path, stop))
    stopped = stopped_in(tmp_path, stop, ["kd-s1", "kd-s2"])
    assert "not saved in time: kd-s1, kd-s2" in str(stopped)
    assert stopped.signal_number == 15
