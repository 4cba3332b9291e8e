"""Charts and sample pictures as text that a page can hold: SVG and data URIs, no files beside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from stillroom.engine.runs import RunFolder

INK = "#7a7f87"  # read equally well on light and on dark paper
COLOURS = ("#8a8f98", "#2f7fd3", "#e08a1e", "#20a36a", "#c2438f", "#7b5bd6", "#b59b1d", "#d2503f")


def learning_curves(runs: Sequence[RunFolder]) -> str:
    """Validation accuracy of every run, epoch by epoch, as SVG."""
    return _lines(runs, "val_top1", "validation accuracy, %")


def agreement_curves(runs: Sequence[RunFolder]) -> str:
    """How often each student names its teacher's class, epoch by epoch, as SVG."""
    if all(run.epochs()[0]["agreement"] is None for run in runs):
        return ""
    return _lines(runs, "agreement", "same answer as the teacher, %")


def _lines(runs: Sequence[RunFolder], key: str, label: str) -> str:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for place, run in enumerate(runs):
        rows = run.epochs()
        if rows[0][key] is None:  # it keeps its colour on the other charts
            continue
        axes.plot(
            [row["epoch"] for row in rows], [row[key] for row in rows],
            label=run.path.name, color=COLOURS[place % len(COLOURS)], marker="o", markersize=3,
            linestyle=("-", "--", "-.", ":")[place // len(COLOURS) % 4],
        )  # fmt: skip
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel(label, color=INK)
    axes.tick_params(colors=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.legend(frameon=False, labelcolor=INK)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    # The XML prologue does not belong inside HTML, and the metadata block only names vocabularies on the web.
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def picture_uri(picture: torch.Tensor) -> str:
    """A uint8 picture (channels, H, W) with one or three channels, as a PNG data URI."""
    array = picture.permute(1, 2, 0).squeeze(-1).numpy()
    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
