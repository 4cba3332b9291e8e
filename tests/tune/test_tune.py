"""Tunings as a whole, each run in this process."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from dataclasses import replace

import pytest
import yaml

from stillroom.cli import main
from stillroom.compare.workers import Staff
from stillroom.engine.run_folder import RunFolder
from stillroom.report.tuning_file import read_tuning, write_tuning
from stillroom.restore import dataset_of
from stillroom.trust import Trust
from tests.conftest import colour_folder
from tests.durability.whole import differences

LARGE, SMALL = "stillroom.models.demo_nets:small", "stillroom.models.demo_nets:small"
METHODS = "{plain: {method: kd, nesterov: false}, wild: '0.1*ce + 9*standardized(kd)'}"
SPACE = {"settings": {"lr": {"times": [0.25, 4]}}, "kd": {"weight": {"choices": [0.9, 9, 1e38]}}}


class InProcess:
    """Runs each cell at once; the process that asks for one is interrupted at some of them."""

    def __init__(self, interrupt_at=()):
        self.interrupt_at, self.count = interrupt_at, 0

    def submit(self, function, *arguments):
        self.count += 1
        if -self.count in self.interrupt_at:
            raise KeyboardInterrupt
        future = Future()
        future.set_result(function(*arguments))
        if self.count in self.interrupt_at:
            raise KeyboardInterrupt
        return future

    def finish_saving(self):
        pass

    def stop(self):
        pass


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=30, side=8)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


def arguments(photos, space, runs, *more):
    return [
        "tune", "--teacher", LARGE, "--student", SMALL, "--methods", METHODS, "--trials", "4", "--rungs", "[1,2]",
        "--epochs", "2", "--seeds", "1", "--teacher_epochs", "1", "--data", str(photos), "--space", str(space),
        "--batch_size", "16", "--accelerator", "cpu", "--precision", "32", "--runs", str(runs), "--name", "c",
        "--page", "false", "--jobs", "1", *more,
    ]  # fmt: skip


def tuned(photos, space, runs, interrupt_at=()):
    """The exit status of the command whose workers are interrupted."""
    workers = InProcess(interrupt_at)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("stillroom.tune.tune", "stillroom.compare.run"):
            patch.setattr(f"{module}.make_staff", lambda ray, count: Staff(workers, 1, 1))
        patch.setenv("LOCAL_RANK", "0")
        return main(arguments(photos, space, runs)), workers.count


@pytest.fixture(scope="module")
def whole(photos, space, tmp_path_factory):
    """A tuning that nothing disturbed."""
    pytest.importorskip("optuna")
    runs = tmp_path_factory.mktemp("whole")
    count = 1 + 2 * (4 + 1) + 1 + 2  # a teacher for the trials, and one for the final runs
    assert tuned(photos, space, runs) == (0, count)
    return runs / "c"


def assert_equal_records(folder, whole):
    """All values, scores, winners and settings are equal, but for the folder."""
    for name in ("tuning.yaml", "trials.jsonl"):
        assert (folder / name).read_text() == (whole / name).read_text().replace(str(whole.parent), str(folder.parent))
    assert read_tuning(folder).trials == read_tuning(whole).trials


def test_an_interrupted_tuning_ends_with_the_same_trials_winners_and_final_runs(whole, photos, space, tmp_path):
    assert tuned(photos, space, tmp_path, [-4])[0] == 130  # before a trial
    assert tuned(photos, space, tmp_path, [5])[0] == 130  # after one whose result nobody has seen
    assert tuned(photos, space, tmp_path)[0] == 0
    assert_equal_records(tmp_path / "c", whole)
    final = [path.parent for path in whole.glob("*-s1/summary.json")]
    assert len(final) == 2
    for run in final:
        assert not differences(RunFolder(run).epochs(), RunFolder(tmp_path / "c" / run.name).epochs())
    assert tuned(photos, space, tmp_path) == (0, 0)  # everything is finished


def test_a_local_ray_runtime_gives_the_same_trials_and_winners(whole, photos, space, tmp_path):
    pytest.importorskip("ray")
    assert main([*arguments(photos, space, tmp_path), "--ray", "local", "--jobs", "2"]) == 0
    assert_equal_records(tmp_path / "c", whole)


def test_a_diverged_trial_has_the_worst_score_and_the_winner_is_trained_on_all_images(whole):
    tuning = read_tuning(whole)
    assert [trial.number for trial in tuning.trials] == [0, 1, 2, 3] * 2
    broken = [trial for trial in tuning.trials if trial.values["kd.weight"] == 1e38]
    assert broken
    assert all("Diverged" in trial.problems[1] for trial in broken)
    label = "plain"
    best = max(tuning.of_method(label), key=lambda trial: (trial.scores.get(1, 0), -trial.number))
    winner = tuning.winners[label]
    assert (winner.trial, winner.score) == (best.number, best.scores[2])
    final = RunFolder(whole / "small-from-small-plain-s1")
    config = final.config()
    assert (config["method"], config["nesterov"], config["hold_out"]) == (winner.text, False, None)
    assert config["lr"] == best.values["lr"]
    described = yaml.safe_load((whole / "comparison.yaml").read_text())
    assert {label: entry["trials"] for label, entry in described["tuned"].items()} == {"plain": 4, "wild": 4}


def test_no_trial_sees_a_validation_image_and_all_share_one_bank(whole):
    final = dataset_of(RunFolder(whole / "small-from-small-plain-s1"))
    trial = RunFolder(whole / "trials" / "plain-t000-e2", Trust())
    trial = trial if trial.finished else RunFolder(next(whole.glob("trials/*-e2")))
    data = dataset_of(trial)
    seen, judged, kept = ({*images.content().tolist()} for images in (data.train, data.val, final.val))
    assert not (seen | judged) & kept
    assert seen | judged == {*final.train.content().tolist()}
    banks = {json.loads(path.read_text())["teacher_bank"] for path in whole.glob("trials/*-t0*/inputs.json")}
    assert len(banks) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--trials", "5"), "trials 4 there, 5 now"),
        (("--batch_size", "8"), "batch_size 16 there, 8 now"),
        (("--methods", "plain: ldrld"), "method"),
        (("--hold_out", "0.5"), "hold_out 0.1 there, 0.5 now"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(whole, photos, space, capsys, more, words):
    before = (whole / "tuning.yaml").read_bytes()
    more = ("--methods", "{plain: ldrld}") if words == "method" else more
    assert main([*arguments(photos, space, whole.parent), *more]) == 2
    said = capsys.readouterr().err
    assert "contains a tuning with other settings" in said
    assert words in said
    assert (whole / "tuning.yaml").read_bytes() == before


def test_mistakes_are_said_before_anything_is_written(photos, space, tmp_path, capsys):
    for more, words in (
        (("--methods", "kd,ldrld(depth=9)"), "depth"),
        (("--rungs", "[2,3]"), "at most epochs=2"),
        (("--seeds", "0,1"), "the trials have seed 0"),
        (("--space", str(photos / "none.yaml")), "cannot be read"),
    ):
        assert main([*arguments(photos, space, tmp_path), *more]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("mine")
    assert main(arguments(photos, space, tmp_path)) == 2
    assert "holds other files and no tuning" in capsys.readouterr().err


def test_a_trial_that_fails_for_another_reason_is_repeated_by_the_same_command(whole, photos, space, tmp_path, capsys):
    """As one whose folder holds other files."""
    shutil.copytree(whole, tmp_path / "c")
    write_tuning(replace(read_tuning(tmp_path / "c"), winners={}))
    run = tmp_path / "c" / "trials" / "wild-t000-e1"
    shutil.rmtree(run)
    run.mkdir()
    (run / "mine.txt").write_text("mine")
    assert tuned(photos, space, tmp_path) == (1, 1)
    said = capsys.readouterr().err
    assert "wild-t000-e1 failed" in said
    assert "the same command repeats the failed runs" in said
    assert not read_tuning(tmp_path / "c").winners
    (run / "mine.txt").unlink()
    assert tuned(photos, space, tmp_path)[0] == 0
    assert read_tuning(tmp_path / "c").trials == read_tuning(whole).trials
    assert read_tuning(tmp_path / "c").winners == read_tuning(whole).winners
