"""From a folder without labels and a network without a classifier to a classifier, in two commands."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from stillroom.api import distill, run_recipe, train
from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.models.weight_files import read_checkpoint
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Lines
from stillroom.trust import given as trusted

TEXTURES = ((3, 0), (0, 3), (3, 3), (1, 0))  # waves an image side, down and across: a class each
SHORT = {"accelerator": "cpu", "precision": "32", "batch_size": 16}
CHANCE = 100 / len(TEXTURES)


def textured(place, texture, number):
    """Write an image of waves in any colour and phase, so that no mean of a channel tells its class."""
    draw = np.random.default_rng([texture, number])
    down, across = TEXTURES[texture]
    y, x = np.mgrid[:16, :16] / 16
    wave = np.sin(2 * np.pi * (down * y + across * x) + draw.uniform(0, 6.28))
    colour = draw.uniform(30, 90, 3) * draw.choice([-1, 1], 3)
    pixels = 128 + wave[..., None] * colour + draw.normal(0, 12, (16, 16, 3))
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{texture}-{number}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A flat folder of images without labels, and a small folder with labels."""
    root = tmp_path_factory.mktemp("photos")
    for texture in range(len(TEXTURES)):
        for number in range(40):
            textured(root / "flat", texture, number)
        for number in range(20):
            textured(
                root / "labelled" / ("train" if number < 10 else "val") / f"waves{texture}", texture, 1000 + number
            )
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """One backbone of timm in two files: with a head, and without."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=7)
    save_file(model.state_dict(), folder / "head.safetensors")
    model.reset_classifier(0)
    save_file(model.state_dict(), folder / "bare.safetensors")
    return folder


def taught(photos, runs, file, say=lambda _: None, method="embed_cosine", **settings):
    given = {
        "teacher": "timm:test_resnet", "teacher_checkpoint": str(file), "teacher_output": "embedding",
        "teacher_image_size": 32, "student": "resnet8", "data": str(photos / "flat"), "labels": "none",
        "method": method, "runs": str(runs), "name": "student", **SHORT, "epochs": 4, **settings,
    }  # fmt: skip
    recipe = make_recipe("distill", given)
    return run_recipe(recipe, Lines(say), Inputs(trust=trusted([given["teacher"], given["student"], method]))).record


def test_embeddings_teach_a_student_whose_frozen_backbone_then_classifies(tmp_path, photos, weights):
    said: list[str] = []
    record = taught(photos, tmp_path, weights / "head.safetensors", said.append)
    rows, summary = record.epochs(), record.summary()
    assert rows[-1]["terms"]["embed_cosine"] < rows[0]["terms"]["embed_cosine"]
    assert [rows[-1][name] for name in ("train_top1", "val_top1", "agreement")] == [None] * 3
    assert summary["teacher"] is None
    text = "\n".join(said)
    assert "teacher: " not in text
    assert "no loss trains the student's classifier" in text
    assert "no classes, " in text
    assert not [name for name in read_checkpoint(record.student) if "projector" in name]
    assert taught(photos, tmp_path, weights / "head.safetensors").summary() == summary  # found again by its embeddings

    probe = {"data": str(photos / "labelled"), "runs": str(tmp_path), "epochs": 20, "freeze_epochs": 20, **SHORT}
    own = train(model=str(record.path), new_head=True, name="probe", lr=0.2, **probe).record
    before, after = read_checkpoint(record.student), read_checkpoint(own.student)
    moved = [name for name, value in after.items() if name not in before or not torch.equal(before[name], value)]
    assert {name.rpartition(".")[0] for name in moved} == {"fc"}
    assert own.summary()["last"]["val_top1"] > 1.6 * CHANCE


def test_a_checkpoint_with_a_head_and_one_without_are_the_same_teacher(tmp_path, photos, weights):
    one, other = (
        taught(photos, tmp_path, weights / f"{name}.safetensors", name=name, epochs=1) for name in ("head", "bare")
    )
    for name in ("teacher_weights", "teacher_facts"):
        assert one.config()[name] == other.config()[name]
    assert one.config()["identity"]["probe"] == other.config()["identity"]["probe"]
    changed = {name: 2 * value for name, value in read_checkpoint(weights / "bare.safetensors").items()}
    save_file(changed, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="teacher_weights"):
        taught(photos, tmp_path, tmp_path / "other.safetensors", name="bare", epochs=1)


def test_labels_and_embeddings_teach_together(tmp_path, photos, weights):
    record = taught(
        photos, tmp_path, weights / "bare.safetensors", data=str(photos / "labelled"), labels="auto", epochs=1,
        method="ce + embed_queue(size=32)", bank=str(tmp_path / "bank"),
    )  # fmt: skip
    row = record.epochs()[-1]
    assert row["val_top1"] is not None
    assert row["agreement"] is None
    assert row["terms"]["ce"] > 0
    assert not (tmp_path / "bank").exists()


class Bare(nn.Sequential):
    """A network of the user's whose output is the embedding."""

    def __init__(self, *more):
        super().__init__(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *more)


def test_a_module_and_a_classifier_teach_by_their_embedding(tmp_path, tiny_data):
    torch.manual_seed(0)
    common = {"student": "resnet8", "method": "embed_mse", "data": tiny_data, "runs": str(tmp_path), "epochs": 1}
    common |= {**SHORT, "teacher_output": "embedding"}
    module = distill(teacher=Bare(), name="module", **common).record
    own = train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="own", epochs=1, **SHORT).record
    by_run = distill(teacher=str(own.path), name="by_run", **common).record
    for record in (module, by_run):
        assert record.epochs()[-1]["terms"]["embed_mse"] > 0
        assert record.epochs()[-1]["agreement"] is None
    parameters = own.summary()["parameters"] - (64 + 1) * len(tiny_data.train.classes)
    assert by_run.summary()["teacher_parameters"] == parameters


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "kd"}, "kd needs the teacher's logits, but teacher ResNet has no classifier"),
        ({"export": "best"}, "export=best: neither accuracy nor agreement .* give export=last"),
        ({"class_map": "none"}, "class_map=none: an embedding has no classes"),
        ({"unmapped": "lowest"}, "unmapped=lowest: an embedding has no classes"),
        ({"teacher_output": "logits"}, "test_resnet, so its classes are not known: .* teacher_output=embedding"),
    ],
)
def test_what_embeddings_cannot_do_is_refused(tmp_path, photos, weights, settings, message):
    data = {"data": str(photos / "labelled"), "labels": "auto"} if "teacher_output" in settings else {}
    with pytest.raises(InputError, match=message):
        taught(photos, tmp_path, weights / "bare.safetensors", **data, **settings)


@pytest.mark.parametrize("teacher", ["net.onnx", "https://host/v2/models/net"])
def test_files_and_servers_give_no_embeddings(tmp_path, teacher):
    with pytest.raises(InputError, match=r"teacher_output=embedding: teacher=.* gives predictions only"):
        distill(teacher=teacher, teacher_output="embedding", student="resnet8", data="nothing", runs=str(tmp_path))


def test_several_teachers_give_no_embeddings(tmp_path):
    (tmp_path / "two.yaml").write_text("teachers:\n- {teacher: a, output: embedding}\n- {teacher: b}\n")
    with pytest.raises(InputError, match="embeddings of several teachers cannot be combined"):
        distill(teacher=str(tmp_path / "two.yaml"), student="resnet8", data="nothing", runs=str(tmp_path))


def test_a_module_that_returns_maps_is_refused(tmp_path, tiny_data):
    common = {"student": "resnet8", "method": "embed_mse", "data": tiny_data, "runs": str(tmp_path)}
    with pytest.raises(InputError, match=r"output of shape \(2, 6, 6, 6\).*one vector per image, \(B, D\)"):
        distill(teacher=nn.Sequential(nn.Conv2d(3, 6, 3)), teacher_output="embedding", **common)
