from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from stillroom.report.charts import (
    CostPoint,
    Curve,
    cost_chart,
    gains_chart,
    line_chart,
    pareto_front,
    plane_chart,
    shortened,
)

NAMES = ("_hidden", "$x_1$", "<b>&", "永字八法", "kd")
CURVES = [Curve(name, place, (1, 2), (1.0, 2.0), (0.5, 1.5), (1.5, 2.5)) for place, name in enumerate(NAMES)]
POINTS = [CostPoint(name, place, place + 1.0, 50.0 + place) for place, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    "drawn",
    [
        line_chart(CURVES, "accuracy"),
        cost_chart(POINTS, "seconds"),
        cost_chart(POINTS, "MACs", logarithmic=True),
        gains_chart([(name, 1.0 - place) for place, name in enumerate(NAMES)], 4.0),
    ],
    ids=["lines", "cost", "logarithmic", "gains"],
)
def test_charts_name_everything_as_it_is_called_in_the_colours_of_the_page(drawn):
    root = ElementTree.fromstring(drawn)
    texts = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert set(NAMES) <= texts
    assert not any("mathdefault" in (text or "") for text in texts)
    assert "var(--" in drawn
    assert not re.search(r"#0a0[bc]", drawn)
    assert "<style" not in drawn  # it would hold for the whole page


def test_one_epoch_is_one_tick_and_its_points_are_marked():
    drawn = line_chart([Curve("kd", 1, (1,), (50.0,), (50.0,), (50.0,))], "accuracy")
    texts = [text.text for text in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[: texts.index("epoch")] == ["1"]
    assert re.search(r'<use [^>]*style="[^"]*var\(--c1\)', drawn)  # a line through one point is not to be seen


def test_bands_are_drawn_only_where_seeds_differ():
    same = Curve("kd", 1, (1, 2), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0))
    assert "opacity: 0.16" in line_chart(CURVES[:1], "accuracy")
    assert "opacity: 0.16" not in line_chart([same], "accuracy")


def test_more_methods_than_colours_differ_in_their_dashes():
    curves = [Curve(str(place), place, (1, 2), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)) for place in (1, 11)]
    strokes = re.findall(
        r'style="fill: none; (?:stroke-dasharray[^"]*; )?stroke: var\(--c1\)[^"]*"', line_chart(curves, "")
    )
    assert len(set(strokes)) == 2


def test_more_methods_than_colours_differ_in_their_markers():
    twins = [CostPoint(str(place), place, 1.0, 50.0) for place in (1, 11)]
    shapes = {re.findall(r'<path id="[^"]*" d="([^"]*)"', cost_chart([twin], "s"))[-1] for twin in twins}
    assert len(shapes) == 2


def test_many_bands_are_left_out_and_a_long_legend_takes_nothing_from_the_drawing():
    def drawn(count):
        curves = [Curve(f"method {place}", place, (1, 2), (1.0, 2.0), (0.5, 1.5), (1.5, 2.5)) for place in range(count)]
        return line_chart(curves, "accuracy")

    def height(text):
        return float(re.search(r'<svg [^>]*height="([0-9.]+)pt"', text)[1])

    assert drawn(8).count("opacity: 0.16") == 8
    assert "opacity: 0.16" not in drawn(9)
    assert height(drawn(16)) > height(drawn(8)) > height(drawn(2))


def test_the_front_holds_what_nothing_beats_in_both():
    cheap, good, dear, bad, tie = (
        CostPoint("cheap", 1, 1.0, 50.0), CostPoint("good", 2, 2.0, 70.0), CostPoint("dear", 3, 3.0, 70.0),
        CostPoint("bad", 4, 2.5, 40.0), CostPoint("tie", 5, 1.0, 45.0),
    )  # fmt: skip
    assert pareto_front([dear, bad, good, tie, cheap]) == [cheap, good]


def test_points_in_the_plane_are_all_drawn_and_every_second_class_is_hollow():
    drawn = plane_chart([(0.0, 0.0), (1.0, -1.0), (0.5, 0.5)], [0, 1, 0])
    paths = [path.get("d") for path in ElementTree.fromstring(drawn)]
    assert paths == ["M0 0h0M50 -50h0", "M100 100h0", "M100 100h0"]
    assert drawn.count('stroke="var(--paper)"') == 1


def test_long_names_are_cut_and_say_so():
    assert shortened("great white shark, man-eater") == "great white shark, man-…"
    assert shortened("shark") == "shark"
