"""A model to be measured, and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from stillroom.data import DataSet
from stillroom.resolve_model import Fit, build
from stillroom.trust import Trust


@dataclass(frozen=True, slots=True)
class MeasuredModel:
    """The model of an evaluation.

    Attributes:
        given: a module, a name, or a run folder.
        checkpoint: file of weights, or None.
        pretrained: whether to load published weights.
        trust: the permissions for a name.
    """

    given: str | nn.Module
    checkpoint: str | None
    pretrained: bool
    trust: Trust

    @property
    def name(self) -> str:
        """Its name; empty for a module."""
        return self.given if isinstance(self.given, str) else ""

    @property
    def module(self) -> nn.Module | None:
        """The module; None for a name."""
        return self.given if isinstance(self.given, nn.Module) else None

    def build(self, data: DataSet) -> nn.Module:
        """The network for the classes and images of a data set, on the CPU unless it was handed in."""
        return build("model", self.given, Fit.of(data), self.checkpoint, self.pretrained, self.trust)
