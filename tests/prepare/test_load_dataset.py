from __future__ import annotations

import pytest
import timm
import torch
from PIL import Image

from stillroom import distill, evaluate, train
from stillroom.cli import main
from stillroom.config import DataOptions, make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models import build_model, save_weights
from stillroom.prepare.load_dataset import (
    load_dataset,
    load_for_training,
    load_in_turn,
    with_image_size,
    with_options,
    with_published_input,
    with_recorded_source,
)
from stillroom.restore import dataset_of
from stillroom.runtime.device import Machine
from stillroom.trust import NOTHING
from tests.conftest import colour_folder, tiny_model


def test_images_get_the_size_that_the_teacher_s_run_had(tmp_path, tiny_data):
    torch.manual_seed(0)
    settings = {"epochs": 1, "batch_size": 40, "accelerator": "cpu", "precision": "32", "runs": str(tmp_path)}
    train(model=tiny_model(), data=tiny_data, name="teacher", mean=[0.1] * 3, std=[0.2] * 3, **settings)
    teacher = str(tmp_path / "teacher")
    recipe = make_recipe("distill", {"teacher": teacher, "student": "resnet8", "data": "photos", "epochs": 1})
    assert with_image_size(recipe).data.image_size == 8
    data = with_options(tiny_data, recipe.data, teacher)
    assert (data.mean, data.std) == ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    larger = make_recipe(
        "distill", {"teacher": teacher, "student": "resnet8", "data": "photos", "epochs": 1, "image_size": 16}
    )
    assert with_image_size(larger).data.image_size == 16


def weights(folder):
    """A checkpoint of a timm network that was published for 160x160 pixels."""
    save_weights(timm.create_model("test_resnet", num_classes=3), folder / "w.pt")
    return {"model": "timm:test_resnet", "checkpoint": str(folder / "w.pt")}


def sized_folder(folder, sides):
    """Three classes with four images each, of these sides in turn."""
    folder.mkdir()
    colour_folder(folder, 4, 8)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.open(path).resize((sides[number % len(sides)],) * 2).save(path)
    return folder


@pytest.mark.parametrize(
    ("sides", "size", "note"),
    [
        ((100, 90), 160, "the images are taken at 160x160 pixels, at which the published weights of timm:test_resnet"),
        ((170,), 160, "the images are taken at 160x160 pixels"),
        ((24,), 24, "the images have 24x24 pixels and not 160x160 pixels, at which the published weights of timm:test"),
    ],
)
def test_a_network_with_weights_gets_images_without_a_size_at_its_own(tmp_path, sides, size, note):
    start = {**weights(tmp_path), "data": str(sized_folder(tmp_path / "photos", sides)), "epochs": 1}
    recipe, data = load_for_training(make_recipe("train", start), NOTHING)
    assert tuple(data.train.images.shape[2:]) == (size, size)
    assert recipe.data.image_size == (size if size == 160 else None)
    assert any(line.startswith(note) for line in data.notes)
    chosen, data = load_for_training(make_recipe("train", {**start, "image_size": 16}), NOTHING)
    assert (chosen.data.image_size, data.notes) == (16, ())


def test_a_network_without_weights_still_requires_an_image_size(tmp_path):
    photos = str(sized_folder(tmp_path / "photos", (20, 24)))
    recipe = make_recipe("train", {"model": "timm:test_resnet", "data": photos, "epochs": 1})
    with pytest.raises(InputError, match=r"differ in size .*; give image_size"):
        load_for_training(recipe, NOTHING)


def test_the_size_that_images_got_is_recorded_and_the_same_command_finds_its_run(tmp_path, capsys):
    photos = sized_folder(tmp_path / "photos", (20, 24))
    command = ["train", "--data", str(photos), "--runs", str(tmp_path), "--name", "t", "--epochs", "1", "--accelerator",
               "cpu", "--precision", "32", "--batch_size", "5", "--val_fraction", "0.25"]  # fmt: skip
    command += [word for name, value in weights(tmp_path).items() for word in (f"--{name}", value)]
    assert main(command) == 0
    assert "note: the images are taken at 160x160 pixels" in " ".join(capsys.readouterr().err.split())
    run = RunFolder(tmp_path / "t")
    assert run.config()["image_size"] == 160
    assert dataset_of(run).input_shape == (3, 160, 160)
    assert main(command) == 0
    assert run.config()["image_size"] == 160


def test_no_function_of_a_file_is_imported_to_learn_its_size(tmp_path, monkeypatch):
    (tmp_path / "sizes_probe.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"teacher": "sizes_probe:make", "student": "resnet8", "data": "photos", "image_size": 16}
    recipe = make_recipe("distill", {**settings, "teacher_checkpoint": "w.pt"})
    assert with_image_size(recipe).data.view_size is None


def test_efficientnet_lite0_comes_with_its_mean_and_std(tiny_data):
    with torch.device("meta"):
        model = build_model("efficientnet-lite0", num_classes=4)
    start = {"checkpoint": None, "pretrained": False}
    found = with_published_input(tiny_data, DataOptions(data="photos"), "efficientnet-lite0", model, **start)
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)


def test_options_decide_how_a_folder_is_loaded(tmp_path):
    folder = colour_folder(tmp_path, 8, 12)
    data = load_dataset(DataOptions(data=str(folder), image_size=8, val_fraction=0.25, per_class=4))
    assert tuple(data.train.images.shape[1:]) == (3, 8, 8)
    assert data.train.labels.bincount().tolist() == [4, 4, 4]


def test_mean_and_std_must_fit_the_channels(tiny_data):
    with pytest.raises(InputError, match=r"mean=\[0.5\].*the images have 3 channels, give 3 numbers each"):
        with_options(tiny_data, DataOptions(data="tiny", mean=[0.5], std=[0.5]), "")


@pytest.mark.parametrize(
    ("data", "start", "published"),
    [
        ("photos", {"checkpoint": None, "pretrained": True}, True),
        ("photos", {"checkpoint": "w.pt", "pretrained": False}, True),
        ("photos", {"checkpoint": None, "pretrained": False}, False),
        ("cifar100", {"checkpoint": "w.pt", "pretrained": False}, False),
        ("cifar100", {"checkpoint": None, "pretrained": True}, True),
    ],
)
def test_a_model_that_starts_from_weights_gets_their_mean_and_std_with_a_note(tiny_data, data, start, published):
    model = timm.create_model("test_resnet", num_classes=4)
    found = with_published_input(tiny_data, DataOptions(data=data), "timm:test_resnet", model, **start)
    config = model.pretrained_cfg
    assert (found.mean, found.std) == (
        (config["mean"], config["std"]) if published else (tiny_data.mean, tiny_data.std)
    )
    assert [note.startswith("mean and std are those of the published weights") for note in found.notes] == [
        True
    ] * published
    given = DataOptions(data=data, mean=[0.1] * 3, std=[0.2] * 3)
    assert with_published_input(tiny_data, given, "timm:test_resnet", model, **start) is tiny_data


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_run_continues_with_the_source_it_was_started_with(tmp_path, kind):
    (tmp_path / "images").mkdir()
    folder = colour_folder(tmp_path / "images", 6, 8)
    settings = {"model": "resnet8", "data": str(folder), "epochs": 1, "batch_size": 6, "image_size": 8, "name": "run",
                "runs": str(tmp_path / "runs"), "accelerator": "cpu", "precision": "32", "workers": 0}  # fmt: skip
    train(**settings, source=kind)
    assert RunFolder(tmp_path / "runs" / "run").config()["source"] == kind
    again = with_recorded_source(make_recipe("train", settings))
    assert again.data.source == kind
    other = with_recorded_source(make_recipe("train", {**settings, "source": "files"}))
    assert other.data.source == "files"  # an explicit setting is refused later, where it differs


def test_every_process_takes_the_source_of_the_first(tmp_path, monkeypatch):
    recipe = make_recipe(
        "train", {"model": "resnet8", "data": str(colour_folder(tmp_path, 6, 8)), "epochs": 1, "image_size": 8}
    )
    sent = []

    def from_all(value):
        sent.append(value)
        return ["files", None]

    monkeypatch.setattr("stillroom.prepare.load_dataset.from_all", from_all)
    machines = [Machine(torch.device("cpu"), "32", rank, 2) for rank in (0, 1)]
    first, second = (load_in_turn(recipe, machine, NOTHING)[1].train.kind for machine in machines)
    assert (first, second) == ("memory", "files")
    assert sent == ["memory", None]


def test_held_out_training_images_take_the_place_of_the_validation_images_from_training_to_evaluation(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = colour_folder(tmp_path / "photos", 20, 8)
    whole = load_dataset(DataOptions(data=str(photos)))
    small = {"epochs": 2, "batch_size": 8, "accelerator": "cpu", "precision": "32", "runs": str(tmp_path / "runs")}
    named = {"student": "stillroom.models.demo_nets:small", "method": "kd", "bank": str(tmp_path / "bank")}
    train(model="stillroom.models.demo_nets:small", data=str(photos), name="teacher", **small)
    named |= {"teacher": str(tmp_path / "runs" / "teacher"), "data": str(photos), "hold_out": 0.25, "trust": True}
    runs = [distill(name=name, **named, **small) for name in ("fills", "reads")]

    data = dataset_of(runs[0].record)
    seen, judged = ({*images.content().tolist()} for images in (data.train, data.val))
    assert seen | judged == {*whole.train.content().tolist()}
    assert not seen & judged
    assert not judged & {*whole.val.content().tolist()}
    assert [run.record.config()["val_images"] for run in runs] == [len(data.val)] * 2
    assert runs[0].record.epochs()[-1]["val_top1"] == runs[1].record.epochs()[-1]["val_top1"]
    measured = evaluate(model=str(runs[0].record.path), data=str(photos), hold_out=0.25, trust=True)
    assert measured.top1 == pytest.approx(runs[0].record.epochs()[-1]["val_top1"])


def test_a_student_that_starts_from_weights_that_have_seen_the_held_out_images_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = colour_folder(tmp_path / "photos", 20, 8)
    small = {"epochs": 1, "batch_size": 8, "accelerator": "cpu", "precision": "32", "runs": str(tmp_path / "runs")}
    train(model="stillroom.models.demo_nets:small", data=str(photos), name="earlier", **small)
    with pytest.raises(InputError, match=r"model=.*earlier.*leave hold_out out"):
        train(model=str(tmp_path / "runs" / "earlier"), data=str(photos), name="again", hold_out=0.25, **small)
