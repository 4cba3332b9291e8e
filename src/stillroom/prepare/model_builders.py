"""Model builders: the student and the method from their names in the settings."""

from __future__ import annotations

import torch
from torch import nn

from stillroom.config import DistillModels, Recipe, TrainModel
from stillroom.data import DataSet
from stillroom.methods import Method, parse_method
from stillroom.models.batch_norm import set_bn_momentum
from stillroom.prepare.python_inputs import Inputs, own_copy
from stillroom.resolve_model import Fit, build


def build_method(recipe: Recipe, inputs: Inputs, supervised: float | None = None) -> Method:
    """The losses that the settings name, without connectors; of a method from Python a copy.

    Args:
        recipe: the settings.
        inputs: objects used instead of names.
        supervised: weight of the loss on labels where the text has none; None for that of its first loss.
    """
    torch.manual_seed(recipe.run.seed)  # losses built from text may draw initial weights
    if inputs.method is not None:
        return own_copy(inputs.method, inputs.student)
    text = recipe.models.method if isinstance(recipe.models, DistillModels) else "ce"
    return parse_method(text, inputs.trust.of(text), supervised)


def student_source(recipe: Recipe) -> tuple[str, str | None, bool]:
    """Name, checkpoint and ``pretrained`` of the model that is trained."""
    models = recipe.models
    if isinstance(models, TrainModel):
        return models.model, models.checkpoint, models.pretrained
    return models.student, models.student_checkpoint, models.student_pretrained


def build_student(recipe: Recipe, inputs: Inputs, data: DataSet) -> nn.Module:
    """The student on the CPU, so that connectors start from the same weights on every device."""
    torch.manual_seed(recipe.run.seed)
    name, checkpoint, pretrained = student_source(recipe)
    models = recipe.models
    role = "model" if isinstance(models, TrainModel) else "student"
    given = inputs.student or name
    student = build(role, given, Fit.of(data), checkpoint, pretrained, inputs.trust, new_head=models.new_head)
    if recipe.optim.bn_momentum is not None:
        set_bn_momentum(student, recipe.optim.bn_momentum)
    return student.cpu()
