from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stillroom.cli import main
from stillroom.cli_tune import winners_table
from stillroom.report.comparison_file import NamedMethod
from stillroom.report.tuning_record import Tuning, Winner
from stillroom.tune.rungs import make_budget


def test_a_dry_run_prints_the_budget_and_trains_nothing(tmp_path, capsys):
    pair = ["--teacher", "resnet20", "--student", "resnet8", "--data", "nowhere", "--runs", str(tmp_path)]
    assert main(["tune", *pair, "--methods", "kd,ldrld(depth=5)", "--epochs", "12", "--seeds", "2", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "each method: 12 trials, trained for 12 x 4, 4 x 12 epochs (96 in all)" in said
    assert "2 methods: 32 runs of the search, then 4 final runs of 12 epochs" in said
    assert "the teacher, which is trained twice: without the held-out images for the trials, and on all" in said
    assert main(["tune", *pair, "--search_teacher", "same", "--dry_run"]) == 0
    assert "beside those of the teacher" in capsys.readouterr().out
    assert main(["tune", *pair, "--teacher_pretrained", "true", "--dry_run"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("epochs of the student")
    assert not any(tmp_path.iterdir())


def test_the_table_of_winners_says_what_was_found_and_after_how_many_epochs():
    winners = {"KD": Winner("0.9*kd(temperature=2.1)", {"lr": 0.02}, 3, 61.25)}
    tuning = Tuning(Path(), "t", "s", {"KD": NamedMethod("kd")}, make_budget(12, 12, 3), {}, 0, 0.1, {}, (), winners)
    table = winners_table(tuning)
    assert [[*column.cells] for column in table.columns] == [
        ["KD"], ["0.9*kd(temperature=2.1)  lr=0.02"], ["3"], ["61.25 %"],
    ]  # fmt: skip
    assert table.caption == "After 12 epochs."
    cautioned = winners_table(replace(tuning, held_out_images=500, seen_by_teacher=500)).caption
    assert "The teacher of the trials was trained on 500 of the 500 held-out images. So held-out scores" in cautioned
    assert "A score on 500 held-out images has a standard error of up to 2.2 points" in cautioned
