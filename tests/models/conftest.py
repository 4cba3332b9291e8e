import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def facts():
    """What was measured on RepDistiller's and mdistiller's own models."""
    return json.loads((Path(__file__).parent / "zoo_facts.json").read_text(encoding="utf-8"))


class Parts:
    """The tensors of a state dict and the two operations the references are spelled out with."""

    def __init__(self, model):
        self.state = model.state_dict()

    def __contains__(self, name):
        return f"{name}.weight" in self.state

    def conv(self, images, name, **options):
        weight = self.state[f"{name}.weight"]
        options.setdefault("padding", weight.shape[-1] // 2)
        return F.conv2d(images, weight, self.state.get(f"{name}.bias"), **options)

    def norm(self, images, name):
        mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        scale, shift = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        column = (1, -1, 1, 1)
        centred = (images - mean.view(column)) / torch.sqrt(var.view(column) + 1e-5)
        return centred * scale.view(column) + shift.view(column)

    def head(self, images, name):
        return images.mean(dim=(2, 3)) @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]


@pytest.fixture
def parts():
    return Parts


@pytest.fixture
def lived_in():
    """Give a fresh model batch-norm statistics as training would, in float64 for tight checks."""

    def prepare(model: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        model = model.double().eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                        tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.4)
        return model

    return prepare


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
