"""The model card of a detector, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillroom.export.card_snippets import detector_snippets
from stillroom.export.detector_export import DetectorExport
from stillroom.export.exported_model import Architecture
from stillroom.export.model_card import FILES, in_backticks, milliseconds
from stillroom.files import write_text
from stillroom.formatting import counted


def write_detector_card(
    folder: Path, config: Mapping[str, Any], home: Architecture, result: DetectorExport, summary: Mapping[str, Any]
) -> None:
    """Write ``README.md`` beside the files of an exported detector.

    Args:
        folder: of the files.
        config: the export's ``config.json``.
        home: the library of the architecture.
        result: the measurements.
        summary: of the run.
    """
    lines = [
        *_head(config, home),
        *_files(folder),
        *_accuracy(result, summary),
        *_speed(result),
        *_use(home, onnx=result.parity is not None),
        *_provenance(config),
    ]
    write_text(folder / "README.md", "\n".join(lines) + "\n")


def _head(config: Mapping[str, Any], home: Architecture) -> Iterator[str]:
    training, size = config["training"], config["input"]
    yield f"# {in_backticks(home.name.rpartition(':')[2])} for {in_backticks(training['data'])}"
    yield ""
    yield (
        f"An object detector of {counted(len(config['classes']), 'class')} and {config['parameters']:,} parameters. It "
        f"resizes an image so that the shorter side has {size['image_size']} pixels and the longer at most "
        f"{size['max_size']}."
    )
    if training["teacher"]:
        yield f"It was distilled from {in_backticks(training['teacher'])} with {in_backticks(training['method'])}."


def _files(folder: Path) -> Iterator[str]:
    yield from ("", "## Files", "", "| file | bytes | what it is |", "|---|---:|---|")
    what = {**FILES, "model.onnx": "the same detector for onnxruntime, one image of any size at a time"}
    for name, words in what.items():
        if (folder / name).exists():
            yield f"| `{name}` | {(folder / name).stat().st_size:,} | {words} |"


def _accuracy(result: DetectorExport, summary: Mapping[str, Any]) -> Iterator[str]:
    count = next(iter(result.scores.values())).count
    yield from ("", "## Average precision", "")
    yield f"Measured by this export on the first {counted(count, 'validation image')}, in percent."
    yield from ("", "| form | AP | AP50 | AP75 |", "|---|---:|---:|---:|")
    for form, score in result.scores.items():
        yield f"| {form} | {score.ap:.2f} | {score.ap50:.2f} | {score.ap75:.2f} |"
    yield ""
    yield f"The run measured AP {summary['last']['val_ap']:.2f} % on all validation images after its last epoch."
    if result.parity is not None:
        parity = result.parity
        yield ""
        yield (
            f"`model.onnx` was checked against PyTorch on {counted(parity.images, 'image')} with "
            f"{counted(parity.detections, 'detection')}: edges differ by at most {parity.box_difference:.1e} pixels "
            f"and scores by at most {parity.score_difference:.1e}; {parity.unmatched} have no counterpart."
        )
    if result.calibrated:
        yield f"The ranges of `model-int8.onnx` were set on {counted(result.calibrated, 'training image')}."
    if result.missing:
        yield in_backticks(result.missing)


def _speed(result: DetectorExport) -> Iterator[str]:
    yield from ("", "## Speed", "")
    if not result.timings:
        yield "Not measured in this export."
        return
    yield "One image at a time on the CPU that `latency.json` names; the models took turns."
    yield from ("", "| model | runtime | ms an image | calls |", "|---|---|---:|---:|")
    for row in result.timings:
        spread = f"{milliseconds(row.low_ms)} to {milliseconds(row.high_ms)}"
        yield f"| {row.model} | {row.runtime} | {milliseconds(row.median_ms)} ({spread}) | {row.calls} |"


def _use(home: Architecture, *, onnx: bool) -> Iterator[str]:
    snippets = detector_snippets(home)
    yield from ("", "## How to use it", "")
    yield (
        "Each snippet runs in this folder and prints the objects in `image.png`. The input is one image (1, 3, H, W) "
        "of any size, float32 in [0, 1]; resizing and normalisation are inside the model. Boxes are left, top, right "
        "and bottom in pixels of the image, in descending order of their scores."
    )
    yield from ("", "In PyTorch:", "", "```python", snippets["torch"], "```")
    if onnx:
        yield from ("", "In onnxruntime:", "", "```python", snippets["onnx"], "```")


def _provenance(config: Mapping[str, Any]) -> Iterator[str]:
    training = config["training"]
    yield from ("", "## Provenance", "")
    yield (
        f"Run {in_backticks(config['made_from'])}, seed {training['seed']}; {training['train_images']:,} training and "
        f"{training['val_images']:,} validation images; weights {in_backticks(config['weights'])} (first digits of a "
        "SHA-256). `config.json` has all settings."
    )
    if training["export"] == "best":
        yield "The best epoch was selected on the validation images, so its AP is optimistically biased."
