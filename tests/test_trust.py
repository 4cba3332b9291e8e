"""Names in files: nothing is imported or fetched unless the user asks for it, whatever the command."""

from __future__ import annotations

import ast
import pickle
import shutil
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import yaml

import stillroom
from stillroom.cli import main
from stillroom.compare.grid import make_grid
from stillroom.compare.options import CompareOptions, names_of
from stillroom.compare.run_cell import _run
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export import export, load
from stillroom.imports import where_found
from stillroom.methods import parse_method
from stillroom.models import build_model
from stillroom.report.aggregate import read_comparison
from stillroom.restore import dataset_of, student_of, teacher_of
from stillroom.runtime.signals import StopRequest
from stillroom.trust import UNKNOWN, Trust, UntrustedError, given
from tests.conftest import colour_folder

SMALL = "stillroom.models.demo_nets:small"
# A stranger's module: importing it leaves a mark, in the place of anything worse.
STRANGER = f"""
from pathlib import Path
Path(__file__).with_name("executed").write_text("")
from torch import nn
from {SMALL.partition(":")[0]} import small
def make(num_classes, in_channels=3):
    return small(num_classes, in_channels)
class Loss(nn.Module):
    def forward(self, student_logits, teacher_logits):
        return (student_logits - teacher_logits).square().mean()
"""
PLAIN = ["--data", "photos"]
FAST = [*PLAIN, "--accelerator", "cpu", "--epochs", "1", "--batch_size", "4", "--precision", "32", "--lr", "0.01"]


def forget():
    """Put the process back to where it had never heard of the stranger."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An unpacked archive: images, a module, runs that name it, recipes that name it."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "photos").mkdir()
    colour_folder(folder / "photos", count=6, side=8)
    (folder / "stranger.py").write_text(STRANGER)
    common = {
        "data": str(folder / "photos"), "runs": str(folder / "runs"), "epochs": 1, "batch_size": 4, "lr": 0.01,
        "accelerator": "cpu", "precision": "32",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        stillroom.train(model=SMALL, name="plain", **common)
        stillroom.train(model="stranger:make", name="t", **common)
        stillroom.distill(
            teacher="runs/t", student="stranger:make", method="ce + stranger.Loss", name="s", trust=True, **common
        )
        forget()
    recipes = {
        "model": {"model": "stranger:make"},
        "hub": {"model": "timm:hf-hub:stranger/net"},
        "method": {"teacher": "runs/plain", "student": SMALL, "method": "ce + stranger.Loss"},
        "teacher": {"teacher": "runs/t", "student": SMALL, "method": "kd"},
        "grid": {"teachers": "runs/plain", "students": ["nonesuch"], "methods": {"x": "ce + stranger.Loss"}},
    }
    for name, settings in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
    (folder / "runs" / "comparison.yaml").write_text(yaml.safe_dump({"methods": {"theirs": "ce + stranger.Loss"}}))
    (folder / "executed").unlink()
    return folder


@pytest.fixture
def here(foreign, tmp_path, monkeypatch):
    """The working directory is a fresh copy of the archive."""
    folder = tmp_path / "foreign"
    shutil.copytree(foreign, folder)
    for run in ("plain", "t", "s"):  # as if it had been made here
        config = folder / "runs" / run / "config.yaml"
        config.write_text(config.read_text().replace(str(foreign), str(folder)))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != str(folder)])
    yield folder
    forget()


def executed(folder):
    return (folder / "executed").exists()


COMMANDS = {
    "evaluate": (["evaluate", "--model", "runs/t", *PLAIN], "runs/t/config.yaml"),
    "export": (["export", "runs/s", "--no_onnx", "--no_latency", "--out", "out"], "runs/s/config.yaml"),
    "distill from a run": (
        ["distill", "--teacher", "runs/t", "--student", SMALL, "--name", "new", *FAST],
        "runs/t/config.yaml",
    ),
    "train on from a run": (["train", "--model", "runs/t", "--name", "new", *FAST], "runs/t/config.yaml"),
    "train by a recipe": (["train", "--config", "model.yaml", "--name", "new", *FAST], "model.yaml"),
    "distill by a recipe": (["distill", "--config", "method.yaml", "--name", "new", *FAST], "method.yaml"),
    "distill from a recipe's run": (
        ["distill", "--config=teacher.yaml", "--name", "new", *FAST],
        "runs/t/config.yaml",
    ),
    "compare": (["compare", "--config", "grid.yaml", "--name", "new", *FAST], "grid.yaml"),
    "compare with a run": (
        ["compare", "--teachers", "runs/t", "--students", "nonesuch", "--methods", "kd", "--name", "new", *FAST],
        "runs/t/config.yaml",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_name_in_a_file_is_imported_only_with_trust(command, here, capsys):
    arguments, place = COMMANDS[command]
    assert main(arguments) == 2
    assert not executed(here)
    assert str(here) not in sys.path
    problem = capsys.readouterr().err.splitlines()[-1]
    assert place in problem
    assert "stranger:" in problem
    assert str(here / "stranger.py") in problem
    assert "--trust" in problem
    main([*arguments, "--trust"])
    assert executed(here)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model", "stranger:make"],
        ["train", "--config", "model.yaml", "--model", "stranger:make"],
        ["train", "--model=stranger:make", "--config", "model.yaml"],
        ["distill", "--config", "method.yaml", "--method", "ce + 2*stranger.Loss"],
        ["distill", "--teacher", "runs/t", "--student", "stranger:make", "--method", "kd"],  # what both name
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_a_name_that_was_typed_is_the_users_own(arguments, here):
    assert main([*arguments, "--name", "new", *FAST]) == 0
    assert executed(here)


def test_flags_win_over_a_file_wherever_they_stand(here):
    (here / "two.yaml").write_text("epochs: 2\n")
    assert main(["train", "--model", SMALL, "--name", "new", *FAST, "--config", "two.yaml"]) == 0
    assert RunFolder(here / "runs" / "new").config()["epochs"] == 1


@pytest.mark.parametrize("line", ["trust: true", "config: other.yaml"])
def test_a_file_cannot_trust_itself_or_lead_to_another(line, here, capsys):
    (here / "other.yaml").write_text("model: stranger:make\ntrust: true\n")
    (here / "model.yaml").write_text(f"model: stranger:make\n{line}\n")
    assert main(["train", "--config", "model.yaml", *FAST]) == 2
    assert f"a file cannot set {line.partition(':')[0]}" in capsys.readouterr().err
    assert not executed(here)


def test_trust_is_no_setting_of_a_run(here):
    assert main(["train", "--config", "model.yaml", "--name", "new", *FAST, "--trust"]) == 0
    assert "trust" not in RunFolder(here / "runs" / "new").config()
    assert main(["train", "--model", "stranger:make", "--name", "new", *FAST]) == 0  # the same run


def test_python_says_trust_too(here):
    for ask in (
        lambda **how: stillroom.evaluate(model="runs/t", data="photos", accelerator="cpu", **how),
        lambda **how: export(RunFolder(Path("runs/s")), Path("out"), onnx=False, latency=False, **how),
        lambda **how: load("out", **how),
    ):
        forget()
        (here / "executed").unlink(missing_ok=True)
        with pytest.raises(UntrustedError, match=r"config\.(yaml|json) names stranger:make.*trust=True"):
            ask()
        assert not executed(here)
        ask(trust=True)
        assert executed(here)
    assert 'load(".", trust=True)' in (here / "out" / "README.md").read_text()


def test_the_record_of_a_run_that_was_just_made_keeps_what_was_permitted(here):
    student, record = stillroom.train(
        model="stranger:make", data="photos", name="new", epochs=1, batch_size=4, accelerator="cpu"
    )
    again = student_of(record, dataset_of(record))
    assert {name: value.tolist() for name, value in again.state_dict().items()} == {
        name: value.tolist() for name, value in student.state_dict().items()
    }
    with pytest.raises(UntrustedError):
        student_of(RunFolder(record.path), dataset_of(record))


def test_a_report_imports_nothing_and_leaves_out_the_views_that_would(here, capsys):
    arguments = ["report", "runs", "--out", "page.html"]
    assert main(arguments) == 0  # the run keeps its predictions, from which all numbers follow
    assert not executed(here)
    page = (here / "page.html").read_text()
    assert "features in the plane, because " in page
    assert "runs/s/config.yaml names stranger:make: make would be imported" in page
    assert "add --trust" in page
    assert main([*arguments, "--trust"]) == 0
    assert executed(here)
    assert "Not shown" not in (here / "page.html").read_text()


def test_labels_in_a_comparison_file_are_only_labels(here):
    assert "theirs" in [method for pair in read_comparison([here / "runs"]).pairs for method in pair.methods]
    assert not executed(here)


def test_what_a_comparison_was_given_reaches_its_runs(here):
    """A cell's teacher is a run folder of the same comparison, whose file names the user's own function."""
    options = CompareOptions(teachers="stranger:make", students=SMALL, methods="ce + stranger.Loss", seeds=1)
    settings = {"data": "photos", "epochs": 1, "batch_size": 4, "lr": 0.01, "accelerator": "cpu", "name": "grid"}
    with pytest.raises(UntrustedError):
        make_grid(options, settings)
    assert not executed(here)
    grid = make_grid(options, settings, given(names_of(options)))
    for cell in pickle.loads(pickle.dumps(grid.cells)):
        assert _run(cell, StopRequest()).finished
        assert cell.run.complete
    teacher = RunFolder(grid.cells[1].run.path)
    with pytest.raises(UntrustedError):
        teacher_of(teacher, dataset_of(teacher))


@pytest.mark.parametrize("name", ["timm:hf-hub:stranger/net", "timm:hf_hub:stranger/net", "timm:local-dir:stranger"])
def test_an_address_in_a_file_is_not_looked_up(name, here, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        "timm.create_model", lambda *given, **_: asked.append(given) or build_model(SMALL, num_classes=3)
    )
    config = here / "runs" / "plain" / "config.yaml"
    config.write_text(config.read_text().replace(SMALL, name))
    arguments = ["evaluate", "--model", "runs/plain", *PLAIN]
    assert main(arguments) == 2
    assert f"runs/plain/config.yaml names {name}" in capsys.readouterr().err
    assert asked == []
    main([*arguments, "--trust"])
    assert asked
    del asked[:]
    (here / "hub.yaml").write_text(f"model: {name}\n")
    assert main(["train", "--config", "hub.yaml", *FAST]) == 2
    assert asked == []
    main(["train", "--config", "hub.yaml", *FAST, "--trust"])
    assert asked


def test_published_weights_that_a_run_names_are_not_fetched_for_a_report(here, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "timm.create_model", lambda *given, **_: asked.append(given) or build_model(SMALL, num_classes=3)
    )
    config = here / "runs" / "s" / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**settings, "teacher": "timm:resnet18", "teacher_pretrained": True}))
    run = RunFolder(here / "runs" / "s")
    with pytest.raises(UntrustedError, match=r"config\.yaml requires the published weights of timm:resnet18"):
        teacher_of(run, dataset_of(run))
    assert asked == []
    with pytest.raises(InputError, match="other weights now"):
        teacher_of(RunFolder(run.path, Trust(files=True)), dataset_of(run))
    assert asked


@pytest.mark.parametrize(
    ("command", "settings", "flag"),
    [
        ("train", {"model": "timm:resnet18", "pretrained": True}, "pretrained"),
        ("distill", {"teacher": "timm:resnet18", "student": SMALL, "teacher_pretrained": True}, "teacher_pretrained"),
        ("distill", {"teacher": "runs/plain", "student": "timm:resnet18", "student_pretrained": True},
         "student_pretrained"),
        ("compare", {"teachers": ["timm:resnet18"], "students": SMALL, "methods": "kd", "teacher_pretrained": True},
         "teacher_pretrained"),
    ],
)  # fmt: skip
def test_published_weights_that_only_a_recipe_asks_for_are_not_fetched(
    command, settings, flag, here, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(
        "timm.create_model",
        lambda *_, pretrained=False, **__: (asked.append(pretrained), build_model(SMALL, num_classes=3))[1],
    )
    monkeypatch.setattr("stillroom.compare.run.compare", lambda *_, **__: asked.append(True) or sys.exit(2))
    (here / "asks.yaml").write_text(yaml.safe_dump(settings))
    arguments = [command, "--config", "asks.yaml", "--name", "new", *FAST]
    assert main(arguments) == 2
    assert not any(asked)
    problem = capsys.readouterr().err
    assert f"asks.yaml sets {flag}: the published weights of timm:resnet18 would be fetched" in problem
    assert "--trust" in problem
    for wanted in ([f"--{flag}", "true"], ["--trust"]):
        del asked[:]
        with suppress(SystemExit):
            main([*arguments, *wanted])
        assert any(asked)


@pytest.mark.parametrize(
    "name",
    [
        "os:abort",
        "stillroomy.models:x",
        "stillroom.models.weight_files:zipfile.ZipFile",
        "stillroom.models.weight_files:warnings.simplefilter",
    ],
)
def test_only_stillrooms_own_models_need_no_trust(name):
    assert build_model(SMALL, num_classes=2, origin=UNKNOWN) is not None
    with pytest.raises(UntrustedError, match="a file names"):
        build_model(name, num_classes=2, origin=UNKNOWN)
    with pytest.raises(InputError, match=r"a file names|cannot be imported"):
        parse_method(f"ce + {name.replace(':', '.')}", UNKNOWN)


def test_a_run_that_names_itself_is_refused(here):
    config = here / "runs" / "t" / "config.yaml"
    config.write_text(config.read_text().replace("stranger:make", str(here / "runs" / "t")))
    for trust in (False, True):
        with pytest.raises(InputError, match="names itself"):
            stillroom.evaluate(model="runs/t", data="photos", accelerator="cpu", trust=trust)


def test_a_module_is_looked_for_without_its_packages(here):
    """The import system would run ``__init__.py`` to find what lies beside it."""
    (here / "stranger").mkdir()
    (here / "stranger" / "__init__.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    (here / "stranger" / "inner.py").touch()
    assert where_found("stranger.inner") == str(here / "stranger" / "inner.py")
    assert where_found("stranger.none") == "its file was not found"
    assert not executed(here)


@cache
def all_calls():
    """Every call in the package: its file and its node; read once for all tests."""
    files = sorted(Path(stillroom.__file__).parent.rglob("*.py"))
    nodes = ((file.name, node) for file in files for node in ast.walk(ast.parse(file.read_text())))
    return [(name, node) for name, node in nodes if isinstance(node, ast.Call)]


def calls(*names):
    """Every call in the package of a function with one of these names: place, name and what is handed in."""
    for file, node in all_calls():
        called = node.func
        if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in names:
            yield f"{file}:{node.lineno}", ast.unparse(called), ast.unparse(node)


def test_every_name_says_where_it_comes_from():
    """What forgets to say so would be taken for typed by the user."""
    doors = {
        "build_model": "origin=",
        "parse_method": ", ",
        "import_callable": "origin",
        "from_function": "origin",
    }
    found = list(calls(*doors))
    assert len(found) > 6
    forgetful = [
        call for call in found if doors[call[1].rpartition(".")[2]] not in call[2] and "trust.of(" not in call[2]
    ]
    assert forgetful == []
