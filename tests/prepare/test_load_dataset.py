from __future__ import annotations

import pytest
import timm
import torch

from stillroom import train
from stillroom.config import DataOptions, make_recipe
from stillroom.errors import InputError
from stillroom.prepare.load_dataset import load_dataset, with_image_size, with_options, with_published_input
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
