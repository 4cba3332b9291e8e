from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import stillroom
from stillroom import predict_images
from stillroom.engine.predictions import predictions_of
from stillroom.errors import InputError
from stillroom.export import export
from stillroom.image_prediction import image_files
from stillroom.restore import dataset_of
from tests.conftest import colour_folder

FAST = {"epochs": 2, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=12, side=20)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    settings = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25], "image_size": 16, "runs": str(runs), **FAST}
    return stillroom.train(model="resnet8", data=str(photos), name="t", **settings).record


def test_a_run_predicts_for_files_what_it_predicted_in_validation(photos, trained):
    data = dataset_of(trained)
    expected = torch.as_tensor(predictions_of(trained).logits).float().softmax(1)
    everything = predict_images(trained.path, photos, accelerator="cpu", batch_size=7)
    assert [one.path for one in everything] == sorted(photos.rglob("*.png"))
    for row, place in zip(expected, data.val.ids.tolist(), strict=True):
        one = everything[place]
        assert sorted(one.classes) == ["blue", "green", "red"]
        probabilities = [row[data.val.classes.index(name)] for name in one.classes]
        assert one.probabilities == pytest.approx([float(p) for p in probabilities], abs=1e-4)
        assert list(one.probabilities) == sorted(one.probabilities, reverse=True)


def test_an_export_predicts_as_its_run(photos, trained, tmp_path):
    out = export(trained, tmp_path / "out", onnx=False, latency=False).folder
    file = photos / "red" / "3.png"
    (one,), (same,) = (predict_images(model, file, top=2, accelerator="cpu") for model in (trained.path, out))
    assert one.classes == same.classes
    assert len(one.classes) == 2
    assert one.probabilities == pytest.approx(same.probabilities, abs=1e-6)


def test_a_run_with_a_central_crop_predicts_and_evaluates_as_it_validated(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    (tmp_path / "photos").mkdir()
    folder = colour_folder(tmp_path / "photos", count=6, side=40)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        Image.open(path).crop((0, 0, 40, 30 + number % 5)).save(path)
    run = stillroom.train(
        model="torchvision:shufflenet_v2_x0_5", data=str(folder), image_size=16, crop_fraction=0.5, workers=0,
        runs=str(tmp_path), name="run", **FAST | {"epochs": 1},
    ).record  # fmt: skip
    val = dataset_of(run).val
    paths = [folder / val.names[place] for place in val.places.tolist()]
    expected = torch.as_tensor(predictions_of(run).logits).float().softmax(1).max(1).values.tolist()
    out = export(run, tmp_path / "out", int8=False, latency=False, say=lambda _: None).folder
    assert json.loads((out / "config.json").read_text())["input"]["crop_fraction"] == 0.5
    for model in (run.path, out, out / "model.onnx"):
        found = predict_images(model, paths, top=1, accelerator="cpu")
        assert [one.probabilities[0] for one in found] == pytest.approx(expected, abs=1e-5)
    measured = stillroom.evaluate(model=str(run.path), data=str(folder), accelerator="cpu", say=lambda _: None)
    assert measured.loss == pytest.approx(run.summary()["last"]["val_loss"], abs=1e-4)

    # The snippets of the model card prepare the image likewise.
    shutil.copy(paths[0], out / "image.png")
    monkeypatch.chdir(out)
    snippets = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        names: dict[str, object] = {}
        exec(snippet, names)
        logits = torch.as_tensor(names["logits"])[0]
        assert float(logits.softmax(0).max()) == pytest.approx(expected[0], abs=0.005)  # Pillow rounds otherwise


def test_a_larger_image_is_resized_and_its_centre_is_cropped(trained, tmp_path):
    generator = np.random.default_rng(0)
    centre = generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    wide = np.zeros((16, 40, 3), np.uint8)
    wide[:, 12:28] = centre
    for name, pixels in (("a.png", centre), ("b.png", wide)):
        Image.fromarray(pixels).save(tmp_path / name)
    one, other = predict_images(trained.path, [tmp_path / "a.png", tmp_path / "b.png"], accelerator="cpu")
    assert one[1:] == other[1:]


def test_an_unreadable_image_is_named_and_the_others_are_predicted(photos, trained, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    good = photos / "blue" / "0.png"
    broken, fine = predict_images(trained.path, [tmp_path, good], accelerator="cpu")
    assert (broken.path, broken.problem, broken.classes) == (tmp_path / "broken.png", "not an image", ())
    assert fine.problem == ""
    assert len(fine.classes) == 3
    (alone,) = predict_images(trained.path, tmp_path, accelerator="cpu")  # no readable image in the batch
    assert alone.problem


def test_a_folder_stands_for_its_images_and_a_file_for_itself(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "notes.txt", ".hidden/d.png", "._e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert image_files([tmp_path]) == [tmp_path / name for name in ("a.jpg", "b.PNG", "sub/c.webp")]
    assert image_files([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]


@pytest.mark.parametrize(
    ("model", "images", "settings", "message"),
    [
        ("run", [], {}, "images is empty: give image files or folders"),
        ("run", ["photo/x.png"], {}, "images=.*x.png: there is no such file or folder"),
        ("run", ["empty"], {}, "images=.*empty: there are no images in this folder; give files that end in .*.jpeg"),
        ("run", ["red"], {"top": 0}, "top=0: give at least 1"),
        ("run", ["red"], {"batch_size": 0}, "batch_size=0: give at least 1"),
        ("runs/none", ["red"], {}, "model=runs/none: there is no such run folder"),
    ],
)
def test_what_cannot_work_is_refused(photos, trained, tmp_path, model, images, settings, message):
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / name if name == "empty" else photos / name for name in images]
    with pytest.raises(InputError, match=message):
        predict_images(trained.path if model == "run" else model, paths, accelerator="cpu", **settings)


def test_a_model_that_a_folder_names_is_imported_only_with_trust(photos, tmp_path):
    model = "tests.conftest:tiny_model"
    run = stillroom.train(model=model, data=str(photos), runs=str(tmp_path), name="own", **FAST).record
    with pytest.raises(InputError, match="trust"):
        predict_images(run.path, photos / "red", accelerator="cpu")
    assert len(predict_images(run.path, photos / "red", accelerator="cpu", trust=True)) == 12
