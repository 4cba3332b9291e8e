"""The model card: accuracy, speed, use and provenance of a student, as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stillroom.export.card_snippets import code_snippets
from stillroom.export.exported_model import Architecture
from stillroom.export.form_scores import FormScores
from stillroom.export.latency import Timing
from stillroom.export.onnx_graph import OPSET, Parity
from stillroom.export.source_run import SourceRun
from stillroom.export.speed import Speed
from stillroom.files import write_text
from stillroom.formatting import counted
from stillroom.report.runs_table import escape_markdown
from stillroom.report.statistics import Difference

SHOWN_CLASSES = 20
FILES = {
    "model.safetensors": "the student's weights, float32, nothing else",
    "config.json": "architecture, classes in order, input, mean and std, how it was trained",
    "model.onnx": "the same student for onnxruntime, any batch size",
    "model-int8.onnx": "the same in 8-bit integers",
    "latency.json": "all measurements of speed",
}


@dataclass(frozen=True)
class Facts:
    """The content of a card.

    Attributes:
        source: the run of the student.
        home: the library of its architecture.
        config: the export's ``config.json``.
        scores: of each form.
        parity: of the ONNX file; None without one.
        calibrated: training images the int8 file was calibrated on; 0 without one.
        loss_of_int8: difference of the int8 file from the float one over the images; None without one.
        speed: of student and teacher; None if not measured.
        environment: of the export.
    """

    source: SourceRun
    home: Architecture
    config: dict[str, Any]
    scores: Mapping[str, FormScores]
    parity: Parity | None
    calibrated: int
    loss_of_int8: Difference | None
    speed: Speed | None
    environment: Mapping[str, Any]


def write_card(folder: Path, facts: Facts) -> None:
    """Write ``README.md`` beside the files it tells of."""
    import jinja2

    # Markdown, not HTML: text of users goes through the filters code and plain.
    markdown = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)  # noqa: S701
    markdown.filters |= {"code": in_backticks, "plain": escape_markdown, "ms": milliseconds, "sentence": _sentence}
    template = markdown.from_string((resources.files("stillroom.export") / "card.md").read_text("utf-8"))
    config, source = facts.config, facts.source
    trained = _trained(source)
    text = template.render(
        name=facts.home.name.rpartition(":")[2],
        config=config,
        training=config["training"],
        classes=config["classes"],
        shape=config["input"],
        files=[
            {"name": name, "bytes": (folder / name).stat().st_size, "what": what}
            for name, what in FILES.items()
            if (folder / name).exists()
        ],
        scores=facts.scores,
        teacher=source.summary.get("teacher"),
        precision=_precision(config["training"]["precision"]),
        parity=facts.parity,
        calibrated=facts.calibrated,
        int8_verdict=_int8_verdict(facts.loss_of_int8),
        speed=facts.speed,
        speed_verdict=_speed_verdict(facts.speed.timings if facts.speed else ()),
        snippets=code_snippets(facts.home, config),
        augmentation=_augmentation(config["training"]["augmentation"]),
        shown_classes=_shown_classes(config["classes"]),
        recipe=_recipe(config["training"]),
        trained=trained,
        versions={"stillroom": trained["versions"].get("stillroom", "")},
        trained_with=_versions(trained["versions"]),
        environment=facts.environment,
        exported_with=_versions({**facts.environment["versions"], **(_onnx_versions() if facts.parity else {})}),
        opset=OPSET,
    )
    write_text(folder / "README.md", re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n")


def in_backticks(text: object) -> str:
    """Text in backticks, whatever is in it; safe within a table."""
    line = " ".join(str(text).split()).replace("|", "¦").replace("`", "'")
    return f"`{line}`" if line else "(none)"


def milliseconds(value: float) -> str:
    """Three digits that count."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{min(digits, 4)}f}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _precision(precision: str) -> str:
    return {"32": "", "auto": " in its own number format"}.get(precision, f" in {precision}")


def _int8_verdict(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return ""
    points = f"{abs(difference.mean):.2f} points of top-1"
    if not difference.mean:
        return "is as accurate as the float file."
    change = f"{'gains' if difference.mean > 0 else 'loses'} {points} against the float file"
    if difference.verdict == "not distinguishable":
        return f"{change}, which on so many images is not distinguishable from no change (McNemar's exact test)."
    return f"{change}, which is more than chance explains (McNemar's exact test)."


def _speed_verdict(timings: Sequence[Timing]) -> str:
    """The table in words: how the student compares with the teacher, and int8 with float."""
    if not timings:
        return ""
    taken = {(row.model, row.runtime, row.batch): row.median_ms for row in timings}
    batches = sorted({row.batch for row in timings})
    runtime = "onnxruntime" if ("student", "onnxruntime", batches[0]) in taken else "PyTorch"
    lines = []
    if all(("teacher", runtime, batch) in taken for batch in batches):
        fractions = [taken["student", runtime, batch] / taken["teacher", runtime, batch] for batch in batches]
        lines.append(f"In {runtime} the student takes {_at(fractions, batches)} the teacher's time.")
    if all(("student", "onnxruntime int8", batch) in taken for batch in batches):
        fractions = [taken["student", "onnxruntime int8", b] / taken["student", runtime, b] for b in batches]
        lines.append(f"Its int8 file takes {_at(fractions, batches)} the float file's time on this processor.")
    return " ".join(lines)


def _at(fractions: Sequence[float], batches: Sequence[int]) -> str:
    return " and ".join(
        f"{fraction:.2f} times (batch {batch})" for fraction, batch in zip(fractions, batches, strict=True)
    )


_AUTO = {
    "none": "",
    "trivial": "TrivialAugmentWide",
    "rand": "RandAugment with {rand_ops} operations of magnitude {rand_magnitude}",
}


def _augmentation(chosen: Mapping[str, Any]) -> str:
    words = [
        f"random crop after padding by {chosen['pad']} pixels" if chosen["pad"] else "",
        "random horizontal flip" if chosen["flip"] else "",
        f"random rotation up to {chosen['rotate']:g} degrees" if chosen["rotate"] else "",
        f"random resized crop of at least {chosen['min_scale']:.0%} of the area"
        if chosen["min_scale"] not in (None, 1)
        else "",
        # Runs of older versions have none of the following.
        f"colour jitter of strength {chosen['colour_jitter']:g}" if chosen.get("colour_jitter") else "",
        _AUTO[chosen.get("auto_augment") or "none"].format(**chosen),
        f"random erasing of {chosen['erase']:.0%} of the images" if chosen.get("erase") else "",
        f"mixup of strength {chosen['mixup']:g}" if chosen.get("mixup") else "",
        f"CutMix of strength {chosen['cutmix']:g}" if chosen.get("cutmix") else "",
    ]
    kinds = ", ".join(word for word in words if word)
    return f"Augmentation: {kinds}." if kinds else "No augmentation."


def _shown_classes(classes: Sequence[str]) -> str:
    names = ", ".join(in_backticks(name) for name in classes[:SHOWN_CLASSES])
    rest = len(classes) - SHOWN_CLASSES
    return names + (f" and {rest} more, all in `config.json`." if rest > 0 else ".")


def _recipe(training: Mapping[str, Any]) -> str:
    steps_down = training["schedule"] == "milestones" and training["milestones"]
    falls = f" {training['milestones']} (factor {training['gamma']:g})" if steps_down else ""
    stopped = f", stopped early after {training['stopped_after']}," if "stopped_after" in training else ""
    parts = [
        f"{counted(training['epochs'], 'epoch')}{stopped} of batches of {training['batch_size']}",
        f"{training['optimizer']} with learning rate {training['lr']:g}, {training['schedule']} schedule{falls}",
        f"weight decay {training['weight_decay']:g}",
        f"precision {training['precision']}",
        f"begun from {escape_markdown(training['started_from'])}",
    ]
    return "; ".join(parts) + "."


def _trained(source: SourceRun) -> dict[str, Any]:
    """The environment of the training; a run folder without it is still one."""
    found = source.run.environment()
    return {"versions": found.get("versions", {}), "git": found.get("git")}


def _onnx_versions() -> dict[str, str]:
    found = {}
    for name in ("onnx", "onnxruntime", "onnxscript"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # installed under another name, as onnxruntime-gpu is
            found[name] = "of unknown version"
    return found


def _versions(versions: Mapping[str, str]) -> str:
    return escape_markdown(", ".join(f"{name} {number}" for name, number in versions.items())) or "unknown"
