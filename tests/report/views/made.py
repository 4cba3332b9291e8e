"""A made-up pair: tiny images, tiny networks, and runs that answer as a test wants."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from stillroom.data.augment import Augment
from stillroom.data.dataset import DataSet
from stillroom.data.image_set import ImageSet
from stillroom.engine.predictions import Predictions
from stillroom.report.aggregate import Pair, PlacedRun
from stillroom.report.views import view_models
from stillroom.trust import NOTHING, Trust

CLASSES = ("up", "down", "left", "right")


@dataclasses.dataclass(frozen=True)
class MadeRun:
    """As much of a run folder as the views read."""

    name: str
    method: str
    path: Path = Path("made")
    trust: Trust = NOTHING

    def config(self):
        return {"method": self.method, "classes": list(CLASSES)}


class Looker(nn.Module):
    """One map of 8 x 8, its average, one linear layer; its embedding is proportional to ``scale``."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 4)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5])[:, None, None, None] * scale)
            self.conv.bias.zero_()
            self.fc.weight.copy_(torch.eye(4) + 0.1)

    def forward(self, images):
        return self.fc(self.pool(self.conv(images)).flatten(1))


def made_data(count=40):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % len(CLASSES)
    part = ImageSet(images, labels, torch.arange(count), CLASSES)
    return DataSet("made", part, part, (0.5,), (0.25,), Augment())


def made_pair(monkeypatch, methods, logits, teacher=None, models=None, teacher_model=None):
    """A pair whose runs answer with given logits.

    ``methods``: label -> text; ``logits``: label -> (N, 4); the model of a label is a ``Looker`` unless given.
    """
    data = made_data()
    models = models or {}

    def says(run):
        return Predictions(logits[run.name], data.val.labels, data.val.ids)

    monkeypatch.setattr(view_models, "predictions_of", says)
    monkeypatch.setattr(view_models, "dataset_of", lambda run: data)
    monkeypatch.setattr(view_models, "student_of", lambda run, data: models.get(run.name, Looker()))
    taught = None if teacher is None else Predictions(teacher, data.val.labels, data.val.ids)
    monkeypatch.setattr(view_models, "teacher_predictions_of", lambda run: taught)
    monkeypatch.setattr(view_models, "teacher_of", lambda run, data: teacher_model)
    cells = tuple(PlacedRun(MadeRun(label, text), label, 0) for label, text in methods.items())
    return Pair("t", "s", None, cells, {})


def random_logits(seed, images=40, classes=4):
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed))
