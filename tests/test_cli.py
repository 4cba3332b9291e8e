from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from PIL import Image

from stillroom.cli import main
from stillroom.engine.run_folder import RunFolder
from stillroom.models import build_model, load_weights
from stillroom.recipes import published_recipes
from tests.conftest import colour_folder
from tests.engine.test_loop import At

SMALL = ["--epochs", "2", "--batch_size", "16", "--lr", "0.05", "--accelerator", "cpu", "--precision", "32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=12, side=16)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", "--model", "resnet8", "--data", str(photos), "--runs", str(runs), "--name", "t", *SMALL]) == 0
    return runs / "t"


def distill_arguments(photos, trained, *more):
    return ["distill", "--teacher", str(trained), "--student", "resnet8", "--data", str(photos), "--runs",
            str(trained.parent), "--method", "ldrld(depth=2)", *SMALL, *more]  # fmt: skip


def test_train_distill_evaluate(photos, trained, capsys):
    assert main(distill_arguments(photos, trained, "--name", "s")) == 0
    table = capsys.readouterr().out
    run = RunFolder(trained.parent / "s")
    last = run.summary()["last"]["val_top1"]
    assert f"{last:.2f}" in table
    assert str(run.student) in table

    assert main(["evaluate", "--model", str(run.path), "--data", str(photos)]) == 0
    assert f"top-1 {last:.2f} %" in capsys.readouterr().out

    student = build_model("resnet8", num_classes=3)
    load_weights(student, run.student)  # the exported file is the student alone, strictly
    assert run.config()["classes"] == ["blue", "green", "red"]


def test_the_same_command_again_trains_nothing(photos, trained, capsys):
    arguments = distill_arguments(photos, trained, "--name", "twice")
    assert main(arguments) == 0
    capsys.readouterr()
    assert main(arguments) == 0
    assert "already finished" in capsys.readouterr().err


def test_a_recipe_file_is_read_and_flags_win(photos, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump({"model": "resnet8", "data": str(photos), "epochs": 9, "batch_size": 16, "lr": 0.02})
    )
    flags = ["--config", str(recipe), "--epochs", "1", "--runs", str(tmp_path), "--name", "r"]
    assert main(["train", *flags]) == 0
    config = RunFolder(tmp_path / "r").config()
    assert (config["epochs"], config["lr"]) == (1, 0.02)


def test_milestones_that_the_run_does_not_reach_are_said(photos, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"model": "resnet8", "data": str(photos), "milestones": [1, 150, 180]}))
    assert main(["train", "--config", str(recipe), "--runs", str(tmp_path), *SMALL]) == 0
    said = "note: milestones: the run ends with epoch 2, so that the learning rate does not fall at 150, 180; give"
    assert said in capsys.readouterr().err


def test_settings_of_a_teacher_are_not_used_without_one_and_that_is_said(photos, tmp_path, capsys):
    where = ["--data", str(photos), "--runs", str(tmp_path), "--name", "t", *SMALL]
    bank = tmp_path / "bank"
    assert main(["train", "--model", "resnet8", *where, "--bank", str(bank), "--shard_teacher", "true"]) == 0
    assert (
        "note: bank and shard_teacher not used: a run that learns from labels has no teacher" in capsys.readouterr().err
    )
    assert not bank.exists()


def test_the_config_of_a_run_is_a_recipe(photos, trained, capsys):
    arguments = ["train", "--config", str(trained / "config.yaml")]
    assert main(arguments) == 0
    assert "already finished" in capsys.readouterr().err
    assert main([*arguments, "--name", "again", "--seed", "1"]) == 0
    assert RunFolder(trained.parent / "again").config()["seed"] == 1


def test_a_runs_own_config_is_a_printed_config_away(photos, capsys):
    assert main(["train", "--model", "resnet8", "--data", str(photos), "--epochs", "3", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["epochs"] == 3
    assert printed["model"] == "resnet8"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--model", "resnet8"], "data is missing"),
        (["train", "--model", "resnet8", "--data", "x", "--epocs", "3"], "did you mean --epochs"),
        (["train", "--model", "resnet8", "--data", "x", "--epoch", "3"], "no argument --epoch; did you mean --epochs"),
        (["train", "--model", "resnet8", "--data", "x", "--batch-size", "3"], "did you mean --batch_size"),
        (["train", "--model", "resnet8", "--data", "x", "3"], "3 belongs to no argument; write --NAME VALUE"),
        (["train", "--model", "resnet8", "--data", "x", "--lr"], "--lr: expected one argument; --help"),
        (["train", "--model", "resnet8", "--data", "x", "--epochs", "many"], "epochs=many: give a whole number"),
        (["train", "--model", "resnet8", "--data", "x", "--epochs", "3.0"], "epochs=3.0: give a whole number"),
        (["train", "--model", "resnet8", "--data", "x", "--lr", "fast"], "lr=fast: give a number"),
        (["train", "--model", "resnet8", "--data", "x", "--flip", "maybe"], "flip=maybe: give true or false"),
        (["train", "--model", "resnet8", "--data", "x", "--milestones", "3"], "milestones=3: give a list of whole num"),
        (["train", "--model", "resnet8", "--data", "x", "--milestones", "[a]"], "give a list of whole numbers such as"),
        (
            ["train", "--model", "resnet8", "--data", "x", "--optimizer", "magic"],
            "optimizer=magic: give sgd, adamw, dot",
        ),
        (["train", "--model", "resnet8", "--data", "nowhere"], "nowhere"),
        (["train", "--model", "resnet9", "--data", "glyphs100"], "resnet9"),
        (["train", "--model", "resnet8", "--data", "x", "--checkpoint", "none.pt"], "checkpoint=none.pt"),
        (["train", "--config", "none.yaml"], "none.yaml"),
        (["compare", "--studens", "a"], "did you mean --students?"),
        (["export"], "arguments are required: RUN; --help"),
        (["distill", "--teacher", "resnet56", "--student", "resnet8", "--data", "x"], "random weights"),
        (["distill", "--teacher", "resnet57", "--student", "resnet8", "--data", "x"], "did you mean resnet56"),
        (
            ["distill", "--teacher", "resnet56", "--student", "resnet8", "--data", "x", "--teacher_pretrained", "true"],
            "teacher_pretrained=true: there are no published weights for teacher=resnet56; give teacher_checkpoint",
        ),
        (["train", "--model", "resnet8", "--data", "glyphs10"], "did you mean glyphs100?"),
        (["evaluate", "--model", "resnet8", "--data", "x"], "random weights"),
        (["list", "dreams"], "dreams"),
        (
            ["list", "method"],
            "WHAT=method: give models or methods or optimizers or data or recipes; did you mean methods?",
        ),
        (["trian"], "there is no command 'trian'; did you mean train?"),
        (["brew"], "there is no command 'brew'; there are demo, train,"),
        (["--epochs", "3"], "the command is missing; there are demo, train,"),
        ([], "the command is missing; there are demo, train,"),
    ],
)
def test_wrong_input_is_one_line_on_stderr_and_status_2(arguments, says, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert err.count("\n") == 1
    assert err.startswith("stillroom: error: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("distill --teacher runs/big_teacher --student resnet8", "teacher=runs/big_teacher: there is no such run "
         "folder; did you mean runs/big-teacher?"),
        ("distill --teacher run/big-teacher --student resnet8", "did you mean runs/big-teacher?"),
        ("distill --teacher big-teacher --student resnet8", "teacher=big-teacher: there is no model of that name; "
         "did you mean runs/big-teacher?"),
        ("distill --teacher photos/red --student resnet8", "photos/red: this folder is not a run, it has no"),
        ("distill --teacher far/away --student resnet8", "there is no such run folder; far does not exist either"),
        ("distill --teacher runs/big-teacher --student runs/none", "student=runs/none: there is no such run folder; "
         "runs holds big-teacher, half"),
        ("distill --teacher runs/big-teacher --student runs/half", "student=runs/half: this run is not finished"),
        ("distill --teacher runs/big-teacher --student resnet8 --teacher_pretrained true", "teacher_pretrained=true: "
         "teacher=runs/big-teacher is a run folder, whose own weights are used; leave teacher_pretrained out"),
        ("distill --teacher resnet8 --student resnet8 --teacher_checkpoint photos/wieghts.pt", "teacher_checkpoint="
         "photos/wieghts.pt: there is no such file; did you mean photos/weights.pt?"),
        ("train --model runs/big-teacher --pretrained true", "model=runs/big-teacher is a run folder"),
        ("train --model runs/b", "model=runs/b: there is no such run folder; runs holds big-teacher, half"),
        ("evaluate --model runs/bigteacher", "did you mean runs/big-teacher?"),
        ("evaluate --model runs/big-teacher --pretrained true", "leave pretrained out"),
        ("compare --teachers runs/bigteacher --students resnet8", "did you mean runs/big-teacher?"),
        ("compare --teachers runs/big-teacher --students resnet8 --teacher_pretrained true", "brings its own weights"),
        ("report runs/bigteacher", "runs/bigteacher: there is no such folder; did you mean runs/big-teacher?"),
        ("report run", "did you mean runs?"),
        ("export runs/bigteacher", "runs/bigteacher: there is no such run folder; did you mean runs/big-teacher?"),
        ("train --model resnet8 --data phots", "did you mean photos?"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_with_what_lies_near_it(arguments, says, tmp_path, monkeypatch, capsys):
    for folder in ("runs/big-teacher", "runs/half", "runs/no-run", "photos/red"):
        (tmp_path / folder).mkdir(parents=True)
    for run in ("big-teacher", "half"):
        (tmp_path / "runs" / run / "config.yaml").write_text("model: resnet8\n")
    (tmp_path / "runs" / "big-teacher" / "summary.json").write_text("{}")
    (tmp_path / "runs" / "big-teacher" / "inputs.json").write_text("{}")
    (tmp_path / "photos" / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    data = [] if "--data" in arguments or arguments.startswith(("report", "export")) else ["--data", "photos"]
    assert main([*arguments.split(), *data]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_an_impossible_depth_and_a_foreign_folder_leave_no_trace(photos, trained, tmp_path, capsys):
    base = [
        "distill",
        "--teacher",
        str(trained),
        "--student",
        "resnet8",
        "--data",
        str(photos),
        "--runs",
        str(tmp_path),
    ]
    assert main([*base, "--method", "ldrld(depth=7)", "--name", "deep"]) == 2
    assert "depth" in capsys.readouterr().err
    assert not (tmp_path / "deep").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    assert main([*base, "--method", "kd", "--name", "mine"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (tmp_path / "mine" / "notes").read_text() == "keep"


def test_a_teacher_of_more_classes_teaches_those_of_the_data(photos, trained, tmp_path, capsys):
    arguments = ["distill", "--teacher", str(trained), "--student", "resnet8", "--data", str(photos), "--runs"]
    assert main([*arguments, str(tmp_path), "--first_classes", "2", "--method", "kd", "--epochs", "1"]) == 0
    said = capsys.readouterr().err
    assert "2 classes of the data from 2 of the teacher's 3, by equal names" in said
    assert "% top-1 on" in said


def test_an_empty_class_folder_is_named(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
    for name in ("0.png", "1.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / "a" / name)
    assert main(["train", "--model", "resnet8", "--data", str(tmp_path / "set"), "--runs", str(tmp_path)]) == 2
    assert "no images: b" in capsys.readouterr().err


def test_a_recipe_never_runs_code(tmp_path, capsys):
    target = tmp_path / "executed"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: !!python/object/apply:os.system ['touch {target}']\ndata: x\n")
    assert main(["train", "--config", str(recipe)]) == 2
    assert not target.exists()


def test_a_published_recipe_is_a_configuration(capsys):
    recipe = next(r for r in published_recipes("cifar100", "resnet32x4", "resnet8x4") if r.method == "reviewkd")
    assert main(["distill", "--config", str(recipe.path)]) == 2
    assert "resnet32x4 would have random weights: give teacher_checkpoint=FILE" in capsys.readouterr().err


def test_help_answers_without_loading_pytorch():
    code = (
        "import sys\nfrom stillroom.cli import main\n"
        "for command in ([], ['distill'], ['demo']):\n"
        "    try: main([*command, '--help'])\n"
        "    except SystemExit as done: assert done.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--method" in done.stdout


def test_divergence_is_status_1_and_names_the_way_out(photos, tmp_path, capsys):
    arguments = ["train", "--model", "resnet8", "--data", str(photos), "--runs", str(tmp_path), "--epochs", "30",
                 "--batch_size", "16", "--lr", "1e30", "--accelerator", "cpu"]  # fmt: skip
    assert main(arguments) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "'ce' became" in message
    assert "Lower lr" in message


def test_a_stop_request_is_the_shells_status_and_the_same_command_goes_on(photos, tmp_path, capsys, monkeypatch):
    arguments = ["train", "--model", "resnet8", "--data", str(photos), "--runs", str(tmp_path), "--name", "r", *SMALL]
    with monkeypatch.context() as patch:
        reporter = At(2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        patch.setattr("stillroom.runtime.reporters.make_reporter", lambda: reporter)
        assert main(arguments) == 128 + signal.SIGTERM
    assert "The same command goes on" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "continuing after step 2" in capsys.readouterr().err


def test_weights_are_what_the_summary_says(trained):
    state = torch.load(trained / "checkpoint" / "last.pt", weights_only=True)
    model = build_model("resnet8", num_classes=3)
    load_weights(model, trained / "student.safetensors")
    assert all(torch.equal(state["student"][key], value) for key, value in model.state_dict().items())


def test_a_page_that_cannot_be_written_is_one_line_and_no_traceback(photos, trained, tmp_path, capsys):
    assert main(distill_arguments(photos, trained, "--runs", str(tmp_path), "--name", "s")) == 0
    (tmp_path / "file").touch()
    assert main(["report", str(tmp_path / "s"), "--out", str(tmp_path / "file" / "page.html"), "--views", "false"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stillroom: error: ")
    assert "page.html" in said or str(tmp_path / "file") in said


def test_report_and_export_from_the_command_line(photos, trained, tmp_path, capsys):
    for method in ("ce", "kd"):
        assert (
            main(distill_arguments(photos, trained, "--runs", str(tmp_path), "--name", method, "--method", method)) == 0
        )
    table = tmp_path / "result.md"
    assert main(["report", str(tmp_path), "--views", "false", "--reference", "kd", "--table", str(table)]) == 0
    assert (tmp_path / "index.html").as_uri() in capsys.readouterr().out
    assert "| kd " in table.read_text("utf-8")
    assert main(["report", str(tmp_path), "--table", "result.docx"]) == 2
    assert "table=result.docx" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "kd"), "--no_onnx", "--no_latency"]) == 0
    assert (tmp_path / "kd" / "export" / "model.safetensors").exists()
    assert main(["report", str(tmp_path / "nothing")]) == 2


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
def test_of_several_processes_only_the_first_prints_the_result(tmp_path, monkeypatch, capsys, rank, speaks):
    from types import SimpleNamespace

    monkeypatch.setattr("stillroom.api.run_recipe", lambda *_: SimpleNamespace(record=SimpleNamespace(student="file")))
    monkeypatch.setattr("stillroom.report.runs_table.summary_table", lambda _: "table")
    monkeypatch.setenv("RANK", rank)
    assert main(["train", "--model", "resnet8", "--data", str(tmp_path), "--runs", str(tmp_path)]) == 0
    assert ("table" in capsys.readouterr().out) is speaks


def test_a_recipe_shows_its_values_in_the_printed_settings_of_each_command(capsys, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("recipe: plain\nema: 0.9\n")
    for command in ("train", "distill", "compare"):
        assert main([command, "--config", str(path), "--nesterov", "false", "--print_config"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown.items() >= {"recipe": "plain", "ema": 0.9, "nesterov": False, "schedule": "milestones"}.items()
    assert main(["distill", "--recipe", "stong", "--print_config"]) == 2
    assert "did you mean strong?" in capsys.readouterr().err
