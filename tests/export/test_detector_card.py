"""The card of a detector says what its files are, and what is missing."""

from __future__ import annotations

from stillroom.export.detector_card import write_detector_card
from stillroom.export.detector_export import DetectorExport
from stillroom.export.exported_model import Architecture
from stillroom.tasks.average_precision import AveragePrecision

CONFIG = {
    "classes": ["red", "blue"], "parameters": 1234, "made_from": "run", "weights": "0123456789abcdef",
    "input": {"image_size": 64, "max_size": 106},
    "training": {"data": "boxes", "teacher": None, "method": None, "seed": 0, "train_images": 12, "val_images": 6,
                 "export": "best"},
}  # fmt: skip


def test_a_card_without_graphs_says_so_and_names_the_bias_of_the_best_epoch(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"1234")
    score = AveragePrecision(12.344, 34.5, 5.0, None, None, None, (12.0, None), 6)
    result = DetectorExport(None, {"PyTorch": score}, 0, "there is no int8 graph: no room", ())
    summary = {"last": {"val_ap": 11.0}}
    write_detector_card(tmp_path, CONFIG, Architecture("function", "a.b:small", None), result, summary)
    card = (tmp_path / "README.md").read_text()
    assert "| PyTorch | 12.34 | 34.50 | 5.00 |" in card
    assert "on the first 6 validation images" in card
    assert "| `model.safetensors` | 4 |" in card
    assert "model.onnx" not in card
    assert "there is no int8 graph: no room" in card
    assert "Not measured in this export." in card
    assert "optimistically biased" in card
    assert "trust=True imports a.b" in card
