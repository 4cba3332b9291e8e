import pytest
import torch

from stillroom import distill, train
from stillroom.data import Augment, DataSet, ImageSet
from stillroom.errors import InputError
from stillroom.export import export, load
from stillroom.resolve_model import Fit, build
from stillroom.trust import NOTHING


def image_set(count, seed, size):
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return ImageSet(images, torch.arange(count) % 2, torch.arange(count), ("ant", "bee"))


def images(size):
    return DataSet("wide", image_set(16, 0, size), image_set(8, 1, size), (0.5,) * 3, (0.2,) * 3, Augment(pad=2))


@pytest.mark.filterwarnings("ignore")  # timm's own
@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_images_that_are_not_square_come_through_from_training_to_export(size, tmp_path):
    """A transformer is built for one size, so it notices a height that was taken for the width."""
    data = images(size)
    common = {"data": data, "epochs": 1, "batch_size": 8, "runs": str(tmp_path), "precision": "32"}
    teacher = train(model="stillroom.models.demo_nets:small", name="t", **common).record
    settings = {"teacher": str(teacher.path), "student": "timm:test_vit", "method": "0.5*ce + 0.5*kd"}
    run = distill(**settings, name="s", **common).record
    made = export(run, tmp_path / "x", data=data, onnx=False, int8=False, latency=False)
    student, config = load(made.folder)
    assert (config["input"]["height"], config["input"]["width"]) == size
    assert student(torch.zeros(1, 3, *size)).shape == (1, 2)


def test_a_model_for_square_images_only_says_so_before_training(tmp_path):
    with pytest.raises(InputError, match=r"vit_b_32 takes square images only, not 96x64; give image_size=64"):
        train(model="torchvision:vit_b_32", data=images((64, 96)), runs=str(tmp_path))


def test_a_model_that_fails_on_images_of_their_shape_is_refused_before_training(tmp_path):
    """Once the width was taken for the height as well, and the loop met the first true image."""

    class Fixed(torch.nn.Sequential):
        """Fits 8x8 and no other shape."""

    model = Fixed(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(InputError, match=r"the model Fixed fails on images of shape \(2, 3, 12, 8\)"):
        train(model=model, data=images((12, 8)), runs=str(tmp_path))


def test_a_run_that_began_with_a_run_of_other_classes_is_built_again(tmp_path, tiny_data):
    common = {"epochs": 1, "batch_size": 16, "runs": str(tmp_path), "precision": "32"}
    first = train(model="resnet8", data=images((8, 8)), name="two", **common).record
    second = train(model=str(first.path), new_head=True, data=tiny_data, name="four", **common)
    built = build("teacher", str(second.record.path), Fit.of(tiny_data), None, pretrained=False, trust=NOTHING)
    for name, value in second.student.state_dict().items():
        assert torch.equal(built.state_dict()[name], value)
