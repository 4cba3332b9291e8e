from __future__ import annotations

import pytest

from stillroom.cli import main
from tests.report.box_runs import made_box_run
from tests.report.pages import made_run


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made_run(tmp_path / "runs", "a", ["x", "y"], "kd", last=50.0)
    made_run(tmp_path / "runs", "b", ["x", "y"], "dkd", last=60.0, lr=0.2, weight_decay=0.0005, schedule="milestones")
    return tmp_path


def test_runs_are_listed(place, capsys):
    assert main(["runs", "list", "--sort", "top1"]) == 0
    out = capsys.readouterr().out
    assert out.index("60.00") < out.index("50.00")
    assert "finished" in out
    assert main(["runs", "list", "elsewhere"]) == 2
    assert "elsewhere: there is no such folder" in capsys.readouterr().err


def test_a_run_is_shown_with_its_settings_result_and_files(place, capsys):
    assert main(["runs", "show", "runs/b"]) == 0
    out = capsys.readouterr().out
    for words in ("runs/b, finished", "dkd", "60.00 %", "1,234,567", "stillroom distill --method dkd", "metrics.jsonl"):
        assert words in out
    rows = [line for line in out.splitlines() if "│ lr " in line]
    assert [cell.strip() for cell in rows[0].split("│")[1:4]] == ["lr", "0.2", "0.05"]
    assert "weight_decay" not in out, "it is the default"


def test_runs_are_compared(place, capsys):
    assert main(["runs", "compare", "runs/a", "runs/b"]) == 0
    out = capsys.readouterr().out
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:4]] for line in out.splitlines()
            if len(cells := line.split("│")) > 3}  # fmt: skip
    assert rows["lr"] == ["0.1", "0.2"]
    assert rows["method"] == ["kd", "dkd"]
    assert rows["top-1, last epoch"] == ["50.00 %", "60.00 %"]
    assert "epochs" not in rows
    assert main(["runs", "compare", "runs/a"]) == 2
    assert "two or more" in capsys.readouterr().err


def test_nothing_is_removed_without_yes(place, capsys):
    assert main(["runs", "remove", "runs/a", "runs/b"]) == 2
    assert "2 runs of" in capsys.readouterr().err
    assert (place / "runs" / "a" / "config.yaml").exists()
    assert main(["runs", "remove", "runs/a", "--yes"]) == 0
    assert "removed runs/a" in capsys.readouterr().out
    assert [path.name for path in (place / "runs").iterdir()] == ["b"]


@pytest.mark.parametrize("words", [[], ["lst"], ["show"], ["show", "runs/none"], ["remove", "runs"]])
def test_wrong_words_are_one_line(place, words, capsys):
    assert main(["runs", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_detectors_are_listed_by_their_ap_and_beside_classifiers_with_its_name(place, capsys):
    made_box_run(place / "boxes", "c", ap=30.0)
    assert main(["runs", "list", "boxes"]) == 0
    assert [cell.strip() for cell in capsys.readouterr().out.splitlines()[1].split("┃")[5:6]] == ["AP"]
    assert main(["runs", "list", "runs", "boxes", "--sort", "top1"]) == 0
    out = capsys.readouterr().out
    assert " score " in out
    assert out.index("top-1 60.00") < out.index("top-1 50.00") < out.index("AP 30.00")
    assert main(["runs", "compare", "runs/a", "boxes/c"]) == 0
    out = capsys.readouterr().out
    assert [cell.strip() for line in out.splitlines() if "AP50, last" in line for cell in line.split("│")[2:4]] == [
        "–", "45.00 %"
    ]  # fmt: skip
    assert main(["runs", "show", "boxes/c"]) == 0
    out = capsys.readouterr().out
    assert "AP, best epoch" in out
    assert "detections.safetensors" in out
    assert main(["runs", "remove", "boxes/c", "--yes"]) == 0
