from __future__ import annotations

import json
import os

import pytest

from stillroom.engine.runs import RunFolder, open_run
from stillroom.errors import InputError

CONFIG = {"model": "m", "lr": 0.1, "runs": "a", "name": None}
INPUTS = {"classes": ["ö", "b"]}


def test_a_new_folder_records_config_and_environment(tmp_path):
    run = open_run(tmp_path / "deep" / "run", CONFIG, INPUTS, 0)
    assert run.config() == CONFIG | INPUTS
    assert "torch" in json.loads((run.path / "environment.json").read_text())["versions"]
    assert not run.finished


def test_the_same_settings_come_back_wherever_the_folder_lies(tmp_path):
    open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    assert open_run(tmp_path / "run", CONFIG | {"runs": "elsewhere"}, INPUTS, 0).path == tmp_path / "run"


def test_other_settings_are_refused_and_named(tmp_path):
    open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    with pytest.raises(InputError, match=r"lr 0\.1 there, 0\.2 now.*name="):
        open_run(tmp_path / "run", CONFIG | {"lr": 0.2}, INPUTS, 0)
    with pytest.raises(InputError, match="classes"):
        open_run(tmp_path / "run", CONFIG, {"classes": ["a"]}, 0)


def test_a_folder_with_foreign_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        open_run(tmp_path, CONFIG, INPUTS, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_too_little_disk_is_said_before_training(tmp_path):
    with pytest.raises(InputError, match=r"need 1000000000000 MB"):
        open_run(tmp_path / "run", CONFIG, INPUTS, 10**18)


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"runs="):
        open_run(tmp_path / "file" / "run", CONFIG, INPUTS, 0)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        open_run(tmp_path / "run", CONFIG, INPUTS, 0)


def test_rows_and_summary_come_back_as_written(tmp_path):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    with pytest.raises(InputError, match="finished run folder"):
        run.summary()
    run.write_epochs([{"epoch": 1}, {"epoch": 2}])
    run.write_summary({"best": 1})
    assert RunFolder(run.path).epochs() == [{"epoch": 1}, {"epoch": 2}]
    assert run.finished
    assert run.summary() == {"best": 1}


def test_a_damaged_record_is_named(tmp_path):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    (run.path / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary\.json cannot be read"):
        run.summary()
