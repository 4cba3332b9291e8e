"""From a finished run to files for use: weights, ONNX, int8, speed and a model card, in one folder."""

from __future__ import annotations

from stillroom.export.deliver import ExportResult, export
from stillroom.export.restore import load

__all__ = ["ExportResult", "export", "load"]
