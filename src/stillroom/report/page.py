"""The page: one HTML file with everything inside, readable without a network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import torch
from torch import Tensor

from stillroom.engine.runs import RunFolder
from stillroom.files import write_text
from stillroom.report.pictures import agreement_curves, learning_curves, picture_uri
from stillroom.report.table import COLUMNS, Row, read_row


@dataclass(frozen=True)
class Sample:
    """One validation picture and what every model says about it.

    Attributes:
        picture: PNG data URI.
        label: the true class.
        answers: model name -> (class it names, its probability, whether it is right).
    """

    picture: str
    label: str
    answers: Mapping[str, tuple[str, float, bool]]


def write_page(
    path: Path,
    title: str,
    runs: Sequence[RunFolder],
    teacher: RunFolder | None = None,
    samples: Mapping[str, Sequence[Sample]] | None = None,
) -> None:
    """Write the page of some runs.

    Args:
        path: the HTML file.
        title: its heading.
        runs: finished runs of students; the first is the baseline the others are compared with.
        teacher: the teacher's own run, when it has one.
        samples: pictures under a heading each.
    """
    everyone = ([teacher] if teacher else []) + list(runs)
    rows = [read_row(run) for run in everyone]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((resources.files("stillroom.report") / "page.html").read_text("utf-8"))
    config = runs[0].config()
    text = template.render(
        title=title,
        verdict=verdict(rows[1:] if teacher else rows, rows[0] if teacher else None, config["val_pictures"]),
        columns=COLUMNS,
        rows=[row.cells() for row in rows],
        curves=learning_curves(everyone),
        curves_text="; ".join(f"{row.name} ends at {row.last:.1f} %" for row in rows),
        agreement=agreement_curves(everyone),
        agreement_text="; ".join(f"{row.name} {row.agreement:.1f} %" for row in rows if row.agreement is not None),
        samples=samples or {},
        config=config,
        methods={run.path.name: run.config().get("method", "ce") for run in runs},
        machine=_environment(runs[0]),
    )
    write_text(path, text)


def verdict(students: Sequence[Row], teacher: Row | None, pictures: int) -> list[str]:
    """The result in words: who gained how much over the first student, and whether chance could explain it.

    Args:
        students: the first is the baseline.
        teacher: its row, if known.
        pictures: in the validation set; they set the size of what chance explains.
    """
    base, *others = students
    lines = []
    if teacher:
        lines.append(
            f"The teacher names {teacher.last:.1f} % of the {pictures:,} test pictures rightly; the student "
            f"“{base.name}” {base.last:.1f} %, with {teacher.parameters / base.parameters:.1f} times fewer parameters."
        )
    share = base.last / 100
    noise = 196 * math.sqrt(2 * share * (1 - share) / pictures)
    for row in others:
        gain = row.last - base.last
        word = "gains" if gain >= 0 else "loses"
        sure = "more than chance explains" if abs(gain) > noise else "within what chance explains"
        lines.append(f"“{row.name}” {word} {abs(gain):.1f} points over “{base.name}” ({row.last:.1f} %), {sure}.")
    if others:
        lines.append(_ranking(students, noise))
    return lines


def _ranking(students: Sequence[Row], noise: float) -> str:
    first, *rest = sorted(students, key=lambda row: -row.last)
    near = [f"“{row.name}” ({first.last - row.last:.1f} behind)" for row in rest if first.last - row.last <= noise]
    tied = f", not distinguishable from it: {', '.join(near)}" if near else ""
    return (
        f"Best of the students: “{first.name}”{tied}. One seed, last epoch; differences under about {noise:.1f} points "
        "may be chance."
    )


def pick_samples(
    pictures: Tensor, labels: Tensor, classes: Sequence[str], logits: Mapping[str, Tensor], better: str, than: str
) -> dict[str, list[Sample]]:
    """Choose pictures on which two models differ, evenly spread over the set, both ways.

    Args:
        pictures: uint8 (N, channels, H, W).
        labels: (N,).
        classes: their names.
        logits: model name -> (N, classes), in the order to show them.
        better: one of the names.
        than: another of them.
    """
    right = {name: (values.argmax(1) == labels) for name, values in logits.items()}
    groups = {
        f"“{better}” is right, “{than}” is wrong": right[better] & ~right[than],
        f"“{better}” is wrong, “{than}” is right": ~right[better] & right[than],
        "everyone is wrong": ~torch.stack(list(right.values())).any(0),
    }
    chosen = {}
    for heading, mask in groups.items():
        places = mask.nonzero().flatten()
        few = places[:: max(1, math.ceil(len(places) / 8))][:8]
        samples = [_sample(int(i), pictures, labels, classes, logits) for i in few]
        chosen[f"{heading} ({len(places):,} of {len(labels):,} pictures)"] = samples
    return chosen


def _sample(i: int, pictures: Tensor, labels: Tensor, classes: Sequence[str], logits: Mapping[str, Tensor]) -> Sample:
    answers = {}
    for name, values in logits.items():
        probability, named = values[i].softmax(0).max(0)
        answers[name] = (classes[int(named)], float(probability), bool(named == labels[i]))
    return Sample(picture_uri(pictures[i]), classes[int(labels[i])], answers)


def _environment(run: RunFolder) -> str:
    found = json.loads((run.path / "environment.json").read_text("utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    device = found["gpu"] or f"CPU ({found['cpu']}, {found['threads']} threads)"
    return f"{versions}; Python {found['python']}; {device}; {found['platform']}"
