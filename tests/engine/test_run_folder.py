from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import nullcontext

import pytest
from torch import nn

from stillroom.engine import run_folder
from stillroom.engine.run_folder import RunFolder, open_run
from stillroom.errors import InputError
from stillroom.models import load_weights

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


def test_the_same_places_spelled_otherwise_and_other_saving_are_the_same_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    one = CONFIG | {"data": "photos", "teacher": "old/c/t", "teacher_checkpoint": "a/w.pt", "checkpoint_every": 1}
    run = open_run(tmp_path / "run", one, INPUTS | {"teacher_weights": "abc"}, 0)
    for data in ("./photos", "photos/", str(tmp_path / "photos"), "link"):
        moved = one | {"data": data, "teacher": "/new/c/t", "teacher_checkpoint": "b/w.pt", "checkpoint_every": 3}
        assert open_run(tmp_path / "run", moved, INPUTS | {"teacher_weights": "abc"}, 0).path == run.path
    for changed in ({"data": "elsewhere"}, {"teacher": "resnet56"}):
        with pytest.raises(InputError, match=next(iter(changed))):
            open_run(tmp_path / "run", one | changed, INPUTS | {"teacher_weights": "abc"}, 0)
    with pytest.raises(InputError, match="teacher_weights"):
        open_run(tmp_path / "run", one | {"teacher": "/new/c/t"}, INPUTS | {"teacher_weights": "xyz"}, 0)


def test_a_damaged_record_of_the_epochs_is_one_line(tmp_path):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    for text in ('{"epoch": 1}\n{"epo', "[1]\n", "\x00\x00"):
        (run.path / "metrics.jsonl").write_text(text)
        with pytest.raises(InputError, match=r"metrics\.jsonl cannot be read"):
            run.epochs()


def test_a_folder_with_foreign_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds other files"):
        open_run(tmp_path, CONFIG, INPUTS, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_foreign_record_is_not_taken_for_the_beginning_of_a_run(tmp_path):
    (tmp_path / "environment.json").write_text('{"versions": {"other": "1"}}')
    with pytest.raises(InputError, match="holds other files"):
        open_run(tmp_path, CONFIG, INPUTS, 0)
    (tmp_path / "environment.json").unlink()
    (tmp_path / "inputs.json").write_text("{}")
    with pytest.raises(InputError, match="holds other files"):
        open_run(tmp_path, CONFIG, INPUTS, 0)
    assert (tmp_path / "inputs.json").read_text() == "{}"


def test_a_run_that_did_not_begin_for_want_of_room_begins_when_there_is_some(tmp_path):
    with pytest.raises(InputError, match="make room"):
        open_run(tmp_path / "run", CONFIG, INPUTS, 10**18)
    assert open_run(tmp_path / "run", CONFIG, INPUTS, 0).config() == CONFIG | INPUTS


def test_what_a_run_has_written_already_is_not_asked_for_again(tmp_path, monkeypatch):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    run.last.write_bytes(bytes(4000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 0, 6000))
    open_run(tmp_path / "run", CONFIG, INPUTS, 10_000)
    with pytest.raises(InputError, match=r"need 6\.1 kB, 6 kB are free"):
        open_run(tmp_path / "run", CONFIG, INPUTS, 10_001)


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(tmp_path):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    left = [run.last.with_name(".last.pt.0123abcd.tmp"), run.path / ".metrics.jsonl.89abcdef.tmp"]
    own = [run.path / "notes.tmp", run.path / ".notes.tmp", run.path / "plot.0123abcd.tmp"]
    for file in left + own:
        file.touch()
    with run.held():
        assert [file.exists() for file in left + own] == [False] * 2 + [True] * 3


def test_without_locks_only_what_is_old_is_taken_for_left_behind(tmp_path, monkeypatch):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    fresh, old = (run.path / f".metrics.jsonl.{digits}.tmp" for digits in ("00000001", "00000002"))
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    monkeypatch.setattr(run_folder, "locked", lambda _: nullcontext(False))
    with run.held():
        assert fresh.exists()
        assert not old.exists()


def test_weights_that_cannot_be_written_say_what_they_need(tmp_path, monkeypatch):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    model = nn.Linear(1000, 250)
    run.write_student(model)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (run.write_candidate, run.write_student):
        with pytest.raises(InputError, match=r"No space left on device\): it needs 1\.1 MB, .*make room"):
            write(model)
    load_weights(nn.Linear(1000, 250), run.student)


def test_too_little_disk_is_said_before_training(tmp_path):
    with pytest.raises(InputError, match=r"need 1000000000 GB, .* are free; make room"):
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
    run.write_summary({"parameters": 1})
    assert RunFolder(run.path).epochs() == [{"epoch": 1}, {"epoch": 2}]
    assert run.finished
    assert run.summary() == {"parameters": 1}


def test_a_damaged_record_is_named(tmp_path):
    run = open_run(tmp_path / "run", CONFIG, INPUTS, 0)
    (run.path / "summary.json").write_text("{")
    with pytest.raises(InputError, match=r"summary\.json cannot be read"):
        run.summary()
