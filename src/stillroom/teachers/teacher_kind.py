"""Teacher kind: what a teacher's name stands for."""

from __future__ import annotations

from typing import Literal

TeacherKind = Literal["network", "onnx", "server", "several"]


def teacher_kind(name: str) -> TeacherKind:
    """What a teacher's name stands for.

    Args:
        name: the setting ``teacher``.

    Returns:
        "server" for an address, "onnx" for an ONNX file, "several" for a YAML file with several teachers, and
        "network" for everything else: a PyTorch network from a run folder, a name or a function.

    Example:
        >>> teacher_kind("https://host/v2/models/big"), teacher_kind("big.onnx"), teacher_kind("timm:resnet18")
        ('server', 'onnx', 'network')
    """
    lower = name.lower()
    if lower.startswith(("http://", "https://")):
        return "server"
    if lower.endswith(".onnx"):
        return "onnx"
    return "several" if lower.endswith((".yaml", ".yml")) else "network"
