"""The faster copy of a network that is only asked for its logits."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.models import ZOO, build_model
from stillroom.models.fused_conv import FoldedConv
from stillroom.models.fusion import frozen
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


def folded(model: nn.Module) -> list[FoldedConv]:
    return [module for module in model.modules() if isinstance(module, FoldedConv)]


def assert_same(model: nn.Module, fast: nn.Module, images: Tensor, tolerance: float = 1e-5) -> None:
    with torch.no_grad():
        wanted, got = logits_of(model(images)), logits_of(fast(images))
    assert wanted.std() > 1e-3  # equal constants would prove nothing
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_model_of_the_zoo_gives_the_same_logits_with_its_norms_folded(name: str) -> None:
    if name in ("resnet110", "vgg19", "vgg16", "ResNet50"):
        pytest.skip("the same code as its smaller siblings")
    model = built(name)
    fast = frozen(model, some_images())
    convolutions = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    assert len(folded(fast)) > convolutions / 3
    assert_same(model, fast, some_images(count=5))


@pytest.mark.parametrize(
    "name",
    [
        "timm:resnet18", "timm:mobilenetv3_small_100", "timm:regnety_002", "torchvision:mobilenet_v2",
        "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5", "torchvision:vgg11_bn",
    ],
)  # fmt: skip
def test_models_of_timm_and_torchvision_have_no_norm_left(name: str) -> None:
    model = built(name)
    fast = frozen(model, some_images(64))
    assert folded(fast)
    assert not [module for module in fast.modules() if isinstance(module, NORMS)]
    assert_same(model, fast, some_images(64, count=5))


def test_a_model_with_nothing_to_fold_is_given_back() -> None:
    model = build_model("timm:vit_tiny_patch16_224", num_classes=7).eval()
    assert frozen(model, some_images(224, count=2)) is model


def test_the_model_is_left_as_it_was_and_its_other_weights_are_shared() -> None:
    model = built("resnet8").train()
    before = copy.deepcopy(model.state_dict())
    fast = frozen(model, some_images())
    with torch.no_grad():
        fast(some_images())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert all(module.training for module in model.modules())
    assert not fast.training
    assert not folded(model)
    assert fast.get_parameter("fc.weight") is model.get_parameter("fc.weight")
    assert not any(parameter.requires_grad for layer in folded(fast) for parameter in layer.parameters())


def test_what_a_forward_pass_notes_in_a_model_stays_out_of_it() -> None:
    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.latest = built("resnet8"), None

        def forward(self, images: Tensor) -> Tensor:
            self.latest = self.body(images)
            return self.latest

    model = Noting().eval()
    fast = frozen(model, some_images())
    assert folded(fast)
    assert type(model.latest) is Tensor  # no leftover of tracing


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_copy_keeps_the_memory_layout(layout: torch.memory_format) -> None:
    model = built("resnet8x4").to(memory_format=layout)
    fast = frozen(model, some_images().to(memory_format=layout))
    assert all(layer.weight.is_contiguous(memory_format=layout) for layer in folded(fast))
    assert_same(model, fast, some_images())


def test_under_bf16_autocast_the_copy_is_as_close_to_the_truth_as_the_model() -> None:
    model, images = built("resnet20"), some_images()
    fast = frozen(model, images)
    with torch.no_grad():
        truth = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            errors = [(logits_of(each(images)).float() - truth).abs().max() for each in (model, fast)]
            assert fast(images).dtype == torch.bfloat16
        torch.testing.assert_close(fast(images), truth, rtol=1e-4, atol=1e-5)  # and back in fp32 nothing is left of it
    assert 0 < errors[1] < 2 * errors[0]


def test_double_precision_stays() -> None:
    model = built("resnet8").double()
    fast = frozen(model, some_images().double())
    assert folded(fast)
    assert_same(model, fast, some_images().double(), tolerance=1e-12)


class Small(nn.Module):
    """Something with a norm to fold, and a way of its own from there to the logits."""

    def __init__(self, end: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.other, self.gate = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
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


def by_another_side(_: nn.Module, __: Tensor, maps: Tensor) -> Tensor:
    return maps if maps.shape[1] > 1 else maps + 1


@pytest.mark.parametrize("end", [by_value, by_batch, by_another_side])
def test_a_model_that_decides_by_what_it_computes_is_given_back(
    end: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> None:
    model = Small(end)
    assert frozen(model, some_images()) is model
    assert model(some_images()).shape == (3, 4)


def by_size(_: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 2) if images.shape[-1] >= 32 else F.relu(maps)


@pytest.mark.parametrize("size", [16, 32])
def test_a_model_that_decides_by_the_size_of_the_images_is_folded_for_the_examples(size: int) -> None:
    model = Small(by_size)
    fast = frozen(model, some_images(size))
    assert len(folded(fast)) == 1
    assert_same(model, fast, some_images(size, count=5))


def added(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    return F.relu(maps + model.other(images))


def added_in_place(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    maps += model.other(images)
    return F.relu(maps, inplace=True)


def added_to_a_vector(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    return F.relu(maps + model.gate(images).mean((2, 3), keepdim=True))


def added_to_a_number(_: nn.Module, __: Tensor, maps: Tensor) -> Tensor:
    return F.relu(maps + 0.5)


def added_to_itself(_: nn.Module, __: Tensor, maps: Tensor) -> Tensor:
    return F.relu(maps + maps)


def scaled_sum(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    return F.relu(torch.add(maps, model.other(images), alpha=0.5))


def read_before_the_activation(_: nn.Module, __: Tensor, maps: Tensor) -> Tensor:
    return F.relu(maps) * maps


def subtracted(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    return F.relu(model.other(images) - maps)


@pytest.mark.parametrize(
    "end",
    [
        added, added_in_place, added_to_a_vector, added_to_a_number,
        added_to_itself, scaled_sum, read_before_the_activation, subtracted,
    ],
)  # fmt: skip
def test_sums_of_every_kind_are_what_they_were(end: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
    model = Small(end)
    fast = frozen(model, some_images())
    assert folded(fast)
    assert_same(model, fast, some_images(count=5))


def changed_after_it_was_read(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    work = images * 1
    side = model.other(work)
    work.mul_(3)
    return F.relu(side + maps) + model.gate(work)


def changed_under_another_name(model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
    total = model.other(images).clone()
    alias = total
    total += maps
    return F.relu(total) + alias


@pytest.mark.parametrize("end", [changed_after_it_was_read, changed_under_another_name])
def test_tensors_that_change_in_place_do_not_change_the_logits(
    end: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> None:
    model = Small(end)
    assert_same(model, frozen(model, some_images()), some_images(count=5))


def test_a_convolution_that_is_read_twice_keeps_its_norm() -> None:
    class Twice(Small):
        def forward(self, images: Tensor) -> Tensor:
            maps = self.conv(images)
            logits: Tensor = self.head((self.norm(maps) * maps + F.relu(self.norm(self.other(images)))).mean((2, 3)))
            return logits

    model = Twice(added)
    fast = frozen(model, some_images())
    assert len(folded(fast)) == 1
    assert_same(model, fast, some_images())


def test_one_convolution_with_two_norms_is_folded_twice() -> None:
    class Shared(Small):
        def __init__(self) -> None:
            super().__init__(added)
            self.second = nn.BatchNorm2d(8)
            lived_in(self)
            self.second.running_mean.add_(0.3)

        def forward(self, images: Tensor) -> Tensor:
            maps = F.relu(self.norm(self.conv(images))) - self.second(self.conv(images * 2))
            logits: Tensor = self.head(maps.mean((2, 3)))
            return logits

    model = Shared()
    fast = frozen(model, some_images())
    assert len(folded(fast)) == 2
    assert_same(model, fast, some_images())


@pytest.mark.parametrize("padding", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}])
def test_padding_that_is_not_a_border_of_zeros_stays(padding: dict[str, object]) -> None:
    model = Small(added)
    model.conv = nn.Conv2d(3, 8, 3, **padding)  # type: ignore[arg-type]
    assert_same(model, frozen(model, some_images()), some_images())


def test_a_norm_without_stored_statistics_stays() -> None:
    model = Small(added)
    model.norm = nn.BatchNorm2d(8, track_running_stats=False).eval()
    fast = frozen(model, some_images())
    assert len(folded(fast)) == 1  # the other summand, with the sum
    assert sum(isinstance(module, NORMS) for module in fast.modules()) == 1
    assert_same(model, fast, some_images())


def test_a_model_with_hooks_or_computed_weights_is_given_back() -> None:
    hooked, computed = built("resnet8"), built("resnet8")
    hooked.get_submodule("layer2").register_forward_hook(lambda *_: None)
    nn.utils.parametrizations.weight_norm(computed.get_submodule("layer1.0.conv1"))
    assert frozen(hooked, some_images()) is hooked
    assert frozen(computed, some_images()) is computed


def test_a_model_that_fails_is_given_back() -> None:
    model = built("resnet8")
    assert frozen(model, torch.zeros(2, 5, 32, 32)) is model


def test_logits_in_a_mapping_stay_in_it() -> None:
    class Named(Small):
        def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"logits": super().forward(images)}

    model = Named(added)
    fast = frozen(model, some_images())
    assert folded(fast)
    assert set(fast(some_images())) == {"logits"}


def test_gradients_to_the_images_are_still_there_for_who_wants_them() -> None:
    model, images = built("resnet8"), some_images()
    fast = frozen(model, images)
    found = [
        torch.autograd.grad(each(x := images.clone().requires_grad_()).square().sum(), x)[0] for each in (model, fast)
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4 * float(found[0].abs().max()))
