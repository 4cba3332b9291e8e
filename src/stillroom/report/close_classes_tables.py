"""The page's section on close classes: sentences, a table by method and a table by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stillroom.data.class_groups import groups_among
from stillroom.report.aggregate import Pair
from stillroom.report.charts import shortened
from stillroom.report.close_classes import BINS, CloseClasses, Relation, Spread, close_classes_of
from stillroom.report.page_tables import Entry, Heading, PageTable, TableRow
from stillroom.report.runs_table import signed
from stillroom.report.verdict import p_text, with_spread

QUARTERS = ("farthest quarter", "second quarter", "third quarter", "closest quarter")
assert len(QUARTERS) == BINS


@dataclass(frozen=True)
class CloseSection:
    """What the page shows.

    Attributes:
        reference: the label of the method that the others are compared with.
        verdict: a sentence where a method's gain depends on closeness, else nothing.
        lines: sentences of the section.
        methods: a row a method.
        groups: a row a group of close classes; None where no groups are known.
    """

    reference: str
    verdict: tuple[str, ...]
    lines: tuple[str, ...]
    methods: PageTable
    groups: PageTable | None


def close_section(
    pair: Pair, reference: str, groups: Mapping[str, frozenset[str]] | None = None
) -> CloseSection | None:
    """Make the section of a pair.

    Args:
        pair: of the comparison.
        reference: label of the method that the others are compared with.
        groups: class names or WordNet ids of each group; None takes the groups by WordNet.

    Returns:
        None where closeness cannot be measured, or there is no method to compare.
    """
    classes = [str(name) for name in pair.cells[0].run.config()["classes"]]
    found = close_classes_of(pair, reference, groups_among(classes, groups))
    if found is None or not found.relations:
        return None
    seen = tuple(_seen(found, reference))
    return CloseSection(
        reference=reference,
        verdict=seen,
        lines=(*seen, *_lines(found, reference)),
        methods=_method_table(found, reference, pair.methods),
        groups=_group_table(found, reference) if found.groups else None,
    )


def _seen(found: CloseClasses, reference: str) -> Iterator[str]:
    """A sentence for each direction of significant relations."""
    for word, sign in (("more", 1), ("less", -1)):
        named = [
            f"{method} ({_correlation(one)}, {p_text(one.p)})"
            for method, one in found.relations.items()
            if one.seen and one.p is not None and one.correlation is not None and one.correlation * sign > 0
        ]
        if named:
            yield (
                f"The gain over {reference} is {word} on classes that the teacher confuses than on others, in rank "
                f"correlation over {found.classes} classes: {'; '.join(named)}."
            )


def _lines(found: CloseClasses, reference: str) -> Iterator[str]:
    unseen = [method for method, one in found.relations.items() if not one.seen]
    if unseen:
        yield f"No relation between the gain over {reference} and closeness is seen for: {'; '.join(unseen)}."
    pairs = "; ".join(f"{shortened(one)} and {shortened(two)} ({value:.3f})" for one, two, value in found.closest)
    yield f"Closest for the teacher: {pairs}."
    if min(one.seeds for one in found.relations.values()) == 1:
        yield "With one common seed, the gain of a class is that of one student over another: run more seeds."


def _correlation(one: Relation) -> str:
    if one.correlation is None or one.low is None or one.high is None:
        return "no spread"
    return f"{signed(one.correlation, 2)} [{signed(one.low, 2)}, {signed(one.high, 2)}]"


def _method_table(found: CloseClasses, reference: str, methods: tuple[str, ...]) -> PageTable:
    heads = [
        Heading(
            name,
            f"gain over {reference} in points on the quarter of the classes with closeness {low:.3f} to {high:.3f}, "
            f"mean ± standard deviation over common seeds; for {reference} its accuracy in %",
        )
        for name, (low, high) in zip(QUARTERS, found.bounds, strict=True)
    ]
    heads += [
        Heading("rank correlation", "of gain and closeness over the classes (Spearman), with its 95 % interval"),
        Heading("p adjusted", "of the rank correlation, corrected for the methods of this pair (Benjamini-Hochberg)"),
    ]
    if found.groups:
        heads += [
            Heading(
                "wrong within group %", "images of the groups below that are predicted as another class of the group"
            ),
            Heading("wrong outside %", "images of the groups below that are predicted as a class outside the group"),
        ]
    rows = []
    for method in methods:
        if method == reference:
            entries = [Entry(f"{with_spread(one.mean, one.deviation)} %") for one in found.accuracy] + [
                Entry(),
                Entry(),
            ]
        elif (one := found.relations.get(method)) is not None:
            p = Entry() if one.p is None else Entry(p_text(one.p).removeprefix("p "), one.p)
            entries = [*map(_gain, one.bins), Entry(_correlation(one), one.correlation), p]
        else:
            entries = [Entry()] * (BINS + 2)
        if found.groups:
            entries += [_percent(errors[method]) for errors in (found.within, found.outside)]
        rows.append(TableRow(method, "reference" * (method == reference), tuple(entries)))
    return PageTable(f"Gains over {reference} by closeness", tuple(heads), tuple(rows))


def _group_table(found: CloseClasses, reference: str) -> PageTable:
    heads = [
        Heading("classes", "of the group"),
        Heading("images", "validation images of these classes"),
        Heading("teacher %", "the teacher's accuracy on them"),
        Heading(f"{shortened(reference)} %", "the reference's accuracy on them, mean ± standard deviation over seeds"),
    ]
    heads += [
        Heading(shortened(method), f"gain of {method} over {reference} in points, mean ± standard deviation over seeds")
        for method in found.relations
    ]
    rows = [
        TableRow(
            name,
            "class",
            (
                Entry(str(len(group.classes)), len(group.classes), ", ".join(group.classes)),
                Entry(f"{group.images:,}", group.images),
                Entry(f"{group.teacher:.1f}", group.teacher),
                _percent(group.accuracy[reference]),
                *(_gain(group.gain[method]) for method in found.relations),
            ),
        )
        for name, group in found.groups.items()
    ]
    return PageTable("Accuracy in groups of close classes", tuple(heads), tuple(rows))


def _gain(one: Spread) -> Entry:
    text = signed(one.mean, 1) + ("" if one.deviation is None else f" ± {one.deviation:.1f}")
    return Entry(text, one.mean)


def _percent(one: Spread) -> Entry:
    text = f"{one.mean:.1f}" + ("" if one.deviation is None else f" ± {one.deviation:.1f}")
    return Entry(text, one.mean)
