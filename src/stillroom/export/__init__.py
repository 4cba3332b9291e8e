"""From a finished run to files for use: weights, ONNX, int8, speed and a model card, in one folder."""

from __future__ import annotations

from stillroom.export.exported_model import load
from stillroom.export.pipeline import ExportResult, export

__all__ = ["ExportResult", "export", "load"]
