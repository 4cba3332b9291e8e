"""Conv-BN fusion: a faster copy of a network that is used for its logits only."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.models import build_model
from stillroom.models.fusion import fused_copy
from stillroom.models.output import logits_of

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def some_images(size: int = 32, count: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def lived_in(model: nn.Module) -> nn.Module:
    """Batch norm statistics, scales and shifts away from where they start."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS):
            for tensor, low in ((module.weight, 0.8), (module.running_var, 0.8), (module.bias, -0.2)):
                tensor.data.copy_(low + 0.4 * torch.rand(tensor.shape, generator=generator))
            module.running_mean.copy_(0.4 * torch.rand(module.running_mean.shape, generator=generator) - 0.2)
    return model.eval()


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    return lived_in(build_model(name, num_classes=7))


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in model.modules())


def assert_same(model: nn.Module, fast: nn.Module, images: Tensor, tolerance: float = 1e-5) -> None:
    with torch.no_grad():
        wanted, got = logits_of(model(images)), logits_of(fast(images))
    assert wanted.std() > 1e-3  # equal constants would prove nothing
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))


@pytest.mark.parametrize("name", ["resnet20", "resnet8x4", "wrn_16_1", "MobileNetV2", "ShuffleV1"])
def test_a_family_of_the_zoo_gives_the_same_logits_with_its_norms_fused(name: str) -> None:
    model = built(name)
    fast = fused_copy(model, some_images())
    assert batch_norms(fast) < 0.6 * batch_norms(model)  # those before a convolution stay
    assert_same(model, fast, some_images(count=5))


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v2", "torchvision:vgg11_bn"])
def test_models_of_torchvision_have_no_norm_left(name: str) -> None:
    model = built(name)
    fast = fused_copy(model, some_images(64))
    assert batch_norms(fast) == 0
    assert_same(model, fast, some_images(64, count=5))


def test_a_model_of_timm_has_no_norm_left() -> None:
    model = built("timm:resnet18")
    fast = fused_copy(model, some_images(64))
    assert batch_norms(fast) == 0
    assert_same(model, fast, some_images(64, count=5))


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 8, 3, padding=(0, 2), stride=2, bias=False),
        nn.Conv2d(3, 8, 3, padding="same", dilation=2),
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
    ],
    ids=["uneven", "same", "reflect"],
)
def test_unusual_padding_gives_the_same_logits(convolution: nn.Conv2d) -> None:
    norm, head = nn.BatchNorm2d(8), nn.Linear(8, 4)
    model = lived_in(nn.Sequential(convolution, norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head))
    fast = fused_copy(model, some_images())
    assert batch_norms(fast) == 0
    assert_same(model, fast, some_images(count=5))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_copy_works_in_each_memory_layout(layout: torch.memory_format) -> None:
    model, images = built("resnet8").to(memory_format=layout), some_images().to(memory_format=layout)
    fast = fused_copy(model, images)
    assert batch_norms(fast) == 0
    convolutions = [module for module in fast.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.weight.is_contiguous(memory_format=layout) for module in convolutions)
    assert_same(model, fast, some_images(count=5).to(memory_format=layout))


def test_double_precision_stays() -> None:
    model = built("resnet8").double()
    fast = fused_copy(model, some_images().double())
    assert batch_norms(fast) == 0
    assert_same(model, fast, some_images().double(), tolerance=1e-12)


def test_logits_in_a_mapping_stay_in_a_mapping() -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = built("resnet8")

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"logits": self.body(images)}

    model = Mapped().eval()
    fast = fused_copy(model, some_images())
    assert batch_norms(fast) == 0
    assert set(fast(some_images())) == {"logits"}
    assert_same(model, fast, some_images(count=5))


def test_a_model_without_a_batch_norm_is_given_back() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)).eval()
    assert fused_copy(model, some_images()) is model


def test_the_model_is_left_as_it_was_and_its_other_weights_are_shared() -> None:
    model = built("resnet8").train()
    before = copy.deepcopy(model.state_dict())
    fast = fused_copy(model, some_images())
    with torch.no_grad():
        fast(some_images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in fast.modules())
    assert fast.get_parameter("fc.weight") is model.get_parameter("fc.weight")


def test_what_a_forward_pass_notes_in_a_model_stays_out_of_it() -> None:
    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.latest = built("resnet8"), None

        def forward(self, images: Tensor) -> Tensor:
            self.latest = self.body(images)
            return self.latest

    model = Noting().eval()
    assert batch_norms(fused_copy(model, some_images())) == 0
    assert type(model.latest) is Tensor  # no leftover of tracing


def test_under_bf16_autocast_the_copy_is_as_close_to_the_truth_as_the_model() -> None:
    model, images = built("resnet20"), some_images()
    fast = fused_copy(model, images)
    assert batch_norms(fast) == 0
    with torch.no_grad():
        truth = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            errors = [(logits_of(each(images)).float() - truth).abs().max() for each in (model, fast)]
            assert fast(images).dtype == torch.bfloat16
        torch.testing.assert_close(fast(images), truth, rtol=1e-4, atol=1e-5)
    assert 0 < errors[1] < 2 * errors[0]


class Small(nn.Module):
    """Something with a norm to fuse, and a way of its own from there to the logits."""

    def __init__(self, end: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.other = nn.Conv2d(3, 8, 3, padding=1)
        self.head, self.end = nn.Linear(8, 4), end
        lived_in(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.end(self, images, self.norm(self.conv(images)))
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


def by_value(_: nn.Module, __: Tensor, maps: Tensor) -> Tensor:
    return maps if maps.sum() > 0 else -maps


def by_batch(_: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    return maps if images.shape[0] > 1 else maps + 1


@pytest.mark.parametrize("end", [by_value, by_batch])
def test_a_model_that_decides_by_what_it_computes_is_given_back(
    end: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> None:
    model = Small(end)
    assert fused_copy(model, some_images()) is model
    assert model(some_images()).shape == (3, 4)


def test_a_model_that_decides_by_the_size_of_the_images_is_given_back() -> None:
    model = built("vgg8")
    assert fused_copy(model, some_images()) is model


def changed_after_it_was_read(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    work = images * 1
    side = model.other(work)
    work.mul_(3)
    return F.relu(side + maps) + model.other(work)


def added_in_place(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    maps += model.other(images)
    return F.relu(maps, inplace=True)


@pytest.mark.parametrize("end", [changed_after_it_was_read, added_in_place])
def test_tensors_that_change_in_place_do_not_change_the_logits(
    end: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> None:
    model = Small(end)
    fast = fused_copy(model, some_images())
    assert batch_norms(fast) == 0
    assert_same(model, fast, some_images(count=5))


def test_one_convolution_with_two_norms_is_not_fused() -> None:
    class Shared(Small):
        def __init__(self) -> None:
            super().__init__(by_value)
            self.second = nn.BatchNorm2d(8)
            lived_in(self)
            self.second.running_mean.add_(0.3)

        def forward(self, images: Tensor) -> Tensor:
            maps = F.relu(self.norm(self.conv(images))) - self.second(self.conv(images * 2))
            logits: Tensor = self.head(maps.mean((2, 3)))
            return logits

    model = Shared()
    assert_same(model, fused_copy(model, some_images()), some_images())


def test_a_model_with_hooks_or_computed_weights_is_given_back() -> None:
    hooked, computed = built("resnet8"), built("resnet8")
    hooked.get_submodule("layer2").register_forward_hook(lambda *_: None)
    nn.utils.parametrizations.weight_norm(computed.get_submodule("layer1.0.conv1"))
    assert fused_copy(hooked, some_images()) is hooked
    assert fused_copy(computed, some_images()) is computed


def test_a_model_that_fails_is_given_back() -> None:
    model = built("resnet8")
    assert fused_copy(model, torch.zeros(2, 5, 32, 32)) is model
