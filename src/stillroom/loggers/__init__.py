"""Loggers: the numbers of a run in TensorBoard, Weights & Biases, MLflow, or a tracker of the user's own.

A run folder records everything; loggers are an addition. The setting ``log_to`` names them.
"""

from stillroom.loggers.logger import LoggedRun, Logger

__all__ = ["LoggedRun", "Logger"]
