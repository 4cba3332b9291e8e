"""What ``stillroom list`` shows."""

from __future__ import annotations

import inspect

from rich.table import Table


def listing(what: str) -> Table:
    """A table of the models, methods or data sets there are.

    Args:
        what: models, methods or data.
    """
    return {"models": _models, "methods": _methods, "data": _data}[what]()


def _models() -> Table:
    from stillroom.models import describe_models

    table = _table("name", "family", "parameters at 100 classes", caption="or timm:NAME, torchvision:NAME, "
                   "package.module:function, or the folder of a finished run")  # fmt: skip
    for row in describe_models():
        table.add_row(row.name, row.family, f"{row.parameters:,}")
    return table


def _methods() -> Table:
    from stillroom.methods import PRESETS, WRAPPERS

    table = _table("name", "what it is", "source", "default weights", "parameters")
    table.add_row("ce", "Labels only", "–", "1*ce", "")
    for name, preset in PRESETS.items():
        weights = f"{preset.ce:g}*ce + {preset.weight:g}*{name}"
        weights += f", warm-up {preset.warmup} epochs" if preset.warmup else ""
        parameters = inspect.signature(preset.loss).parameters.values()
        values = ", ".join(f"{p.name}={p.default}" for p in parameters)
        table.add_row(name, preset.title, preset.source, weights, values)
    for name in WRAPPERS:
        table.add_row(f"{name}(LOSS)", "Z-scores of both logits before LOSS", "LSKD, CVPR 2024", "as LOSS", "")
    return table


def _data() -> Table:
    from stillroom.data import describe_sets

    table = _table("name", "classes", "side in pixels", "where it comes from", caption="or any folder of pictures")
    for row in describe_sets():
        table.add_row(*(str(cell) for cell in row))
    return table


def _table(*columns: str, caption: str | None = None) -> Table:
    table = Table(caption=caption, caption_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
