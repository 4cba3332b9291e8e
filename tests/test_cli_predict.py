from __future__ import annotations

import csv
import io

import pytest
import timm

from stillroom.cli import main
from stillroom.cli_predict import prediction_table, write_csv
from stillroom.image_prediction import FilePrediction
from stillroom.models import save_weights
from tests.conftest import colour_folder

SMALL = ["--epochs", "1", "--batch_size", "16", "--accelerator", "cpu", "--precision", "32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=8, side=8)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", "--model", "resnet8", "--data", str(photos), "--runs", str(runs), "--name", "t", *SMALL]) == 0
    return str(runs / "t")


def test_csv_has_a_row_for_each_image_and_class_and_nothing_else(photos, trained, capsys):
    capsys.readouterr()
    files = [str(photos / "red" / "1.png"), str(photos / "blue")]
    assert main(["predict", trained, *files, "--top", "2", "--format", "csv", "--accelerator", "cpu"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 * 9
    assert [row["image"] for row in rows[:4]] == [files[0]] * 2 + [str(photos / "blue" / "0.png")] * 2
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "1", "2"]
    assert {row["class"] for row in rows} <= {"red", "green", "blue"}
    assert all(0 < float(row["probability"]) < 1 for row in rows)


def test_a_table_is_the_default_and_an_unreadable_image_gives_status_1(photos, trained, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"x")
    capsys.readouterr()
    assert main(["predict", trained, str(tmp_path / "bad.jpg"), str(photos / "red" / "1.png")]) == 1
    said = capsys.readouterr()
    assert "1.png" in said.out
    assert said.out.count(" %") == 3  # fewer classes than the default of --top
    assert "bad.jpg" not in said.out
    assert said.err == f"stillroom: {tmp_path / 'bad.jpg'} cannot be read (not an image)\n"


def test_options_of_the_model_reach_it_and_its_notes_are_on_stderr(photos, tmp_path, capsys):
    save_weights(timm.create_model("test_resnet", num_classes=2), tmp_path / "w.pt")
    file = str(photos / "red" / "1.png")
    words = ["--checkpoint", str(tmp_path / "w.pt"), "--pretrained", "false", "--precision", "bf16", "--format", "csv"]
    assert main(["predict", "timm:test_resnet", file, *words, "--accelerator", "cpu"]) == 0
    said = capsys.readouterr()
    assert [row["class"] for row in csv.DictReader(io.StringIO(said.out))] in (["0", "1"], ["1", "0"])
    assert said.err.startswith("stillroom: note: the classes of timm:test_resnet have no names")
    (tmp_path / "names.txt").write_text("hot\ncold\n")
    assert main(["predict", "timm:test_resnet", file, *words, "--class_names", str(tmp_path / "names.txt")]) == 0
    said = capsys.readouterr()
    assert {row["class"] for row in csv.DictReader(io.StringIO(said.out))} == {"hot", "cold"}
    assert not said.err
    assert main(["predict", "efficientnet-lite0", file, "--pretrained", "true", *words[:2]]) == 2
    assert "pretrained=true" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "the following arguments are required: IMAGES"),
        (["MODEL", "nowhere.png"], "images=nowhere.png: there is no such file or folder"),
        (["MODEL", "PHOTOS", "--top", "0"], "top=0: give at least 1"),
        (["MODEL", "PHOTOS", "--format", "xml"], "invalid choice: 'xml'"),
    ],
)
def test_what_cannot_work_is_one_line_with_status_2(photos, trained, arguments, message, capsys):
    words = [{"MODEL": trained, "PHOTOS": str(photos)}.get(word, word) for word in arguments]
    assert main(["predict", *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_names_from_elsewhere_are_text(tmp_path, capsys):
    one = FilePrediction(tmp_path / "a\nb.png", ("=HYPERLINK(1)", "[red]"), (0.75, 0.25))
    write_csv([one])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [row[2] for row in rows] == ["class", "'=HYPERLINK(1)", "[red]"]
    assert rows[1][0].endswith("a\\nb.png")
    assert rows[1][3] == "0.75"
    assert prediction_table([one]).row_count == 2
