"""Optimizers that keep the gradients of the task and of the teacher apart. They require PyTorch only."""

from stillroom.optim.deepkd import DeepKD
from stillroom.optim.dot import DOT
from stillroom.optim.stream_optimizer import StreamOptimizer

__all__ = ["DOT", "DeepKD", "StreamOptimizer"]
