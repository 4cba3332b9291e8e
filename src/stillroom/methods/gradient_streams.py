"""Gradient streams of a method: which of its terms belong to the task, and which to the teacher."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from stillroom.losses.protocol import stream_rows_of
from stillroom.methods.method import Method


def stream_of(method: Method, term: str, part: str, streams: Sequence[str]) -> str:
    """The stream of a term, or of a part of it.

    The cross-entropy, and a loss that reads nothing of the teacher, are the first stream, the task. A part belongs to
    the stream of its name. Everything else belongs to the last stream.

    Args:
        method: the losses.
        term: name of one of its terms.
        part: name of the term's part; empty for the whole term.
        streams: of the optimizer.
    """
    if part in streams:
        return part
    return streams[0] if term in _on_labels(method) else streams[-1]


def values_by_stream(
    method: Method, streams: Sequence[str], values: Iterable[tuple[str, str, Tensor]]
) -> dict[str, Tensor]:
    """Sort the values of a method's terms by stream.

    Args:
        method: the losses.
        streams: of the optimizer.
        values: from :meth:`Method.values`.

    Returns:
        (terms,) for each stream, in the order of the method's terms; 0 for a term that is not in the stream. A stream
        of which no term is computed has no graph.
    """
    rows: dict[str, dict[str, Tensor]] = {stream: {} for stream in streams}
    for term, part, value in values:
        row = rows[stream_of(method, term, part, streams)]
        row[term] = row[term] + value if term in row else value
        zero = value.detach().new_zeros(())
    return {stream: torch.stack([row.get(name, zero) for name in method.term_names]) for stream, row in rows.items()}


def streams_used(method: Method, streams: Sequence[str]) -> dict[str, list[str]]:
    """The names of the terms by the streams that have any; a term in parts is in several."""
    used: dict[str, list[str]] = {stream: [] for stream in streams}
    split = {term.name for term in method.terms if len(streams) > 2 and stream_rows_of(term.loss) is not None}
    for name in method.term_names:
        for stream in streams[1:] if name in split else [stream_of(method, name, "", streams)]:
            used[stream].append(name)
    return {stream: names for stream, names in used.items() if names}


def _on_labels(method: Method) -> set[str]:
    """The terms that read nothing of the teacher."""
    found = {method.supervised_name}
    for term in method.terms:
        read = {*term.needs, *term.connect_needs}
        if not term.properties.reuses_head and not any(name.startswith("teacher") for name in read):
            found.add(term.name)
    return found
