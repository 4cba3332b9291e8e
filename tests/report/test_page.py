from __future__ import annotations

import html.parser
import json
import re

import torch

import stillroom
from stillroom.report import page
from stillroom.report.aggregate import read_comparison
from stillroom.report.page import write_report
from stillroom.report.summary import summarize
from stillroom.report.verdict import verdict
from stillroom.report.views import box_images
from tests.conftest import tiny_model
from tests.report.box_runs import made_box_runs
from tests.report.pages import made_comparison, made_views

METHODS = ("kd", "dkd", "ldrld")


class Checker(html.parser.HTMLParser):
    """Collects what a page would fetch, and what it leaves open."""

    def __init__(self):
        super().__init__()
        self.fetched, self.open = [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href") and not (value or "").startswith(("data:", "#")):
                self.fetched.append(value)
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(path):
    """A page's text, after a look at whether it is whole and stands alone."""
    text = path.read_text("utf-8")
    checker = Checker()
    checker.feed(text)
    assert checker.fetched == []
    assert checker.open == []
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)  # XML namespaces are names, not addresses
    return text


def written(tmp_path, monkeypatch, classes=("a", "b", "c"), methods=METHODS, views=None, **options):
    comparison = made_comparison(tmp_path, monkeypatch, classes, methods, **options)
    if views is not None:
        monkeypatch.setattr(page, "_views", lambda pair, reference, say: views)
    write_report(tmp_path / "page.html", comparison, summarize(comparison), views=views is not None)
    return checked(tmp_path / "page.html")


def test_the_page_of_trained_runs_tells_result_views_and_provenance(runs, tmp_path):
    comparison = read_comparison([runs], title="Tiny")
    said = []
    summaries = summarize(comparison)
    write_report(tmp_path / "page.html", comparison, summaries, say=said.append)
    text = checked(tmp_path / "page.html")
    for line in verdict(summaries[0], comparison.reference):
        assert str(page._template().environment.from_string("{{ line | e }}").render(line=line)) in text
    for method in summaries[0].methods:
        assert f"{method.last_mean:.2f}" in text
    for heading in (
        "Learning curves", "Accuracy against cost", "Classes that gained and lost", "Confusions that changed",
        "Alignment with the teacher", "Relation explorer", "Chosen images", "Features in the plane",
        "How the runs were made",
    ):  # fmt: skip
        assert f"<h3>{heading}</h3>" in text
    assert any("plane" in line for line in said)


def test_a_page_of_200_classes_and_10_methods_is_smaller_than_8_mb(tmp_path, monkeypatch):
    classes = [f"great grey class of animals number {i}" for i in range(200)]
    methods = [f"method-{i}(weight=0.5)" for i in range(10)]
    written(tmp_path, monkeypatch, classes, methods, views=made_views(classes, methods))
    assert (tmp_path / "page.html").stat().st_size < 8e6


def test_what_users_wrote_is_text_and_never_markup(tmp_path, monkeypatch):
    evil = "<script>alert(1)</script>"
    classes = (evil, "</script><img src=x>", "a'\"&b")
    text = written(tmp_path, monkeypatch, classes, (evil, "<b>kd</b>"), views=made_views(classes, (evil, "<b>kd</b>")))
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "<b>" not in text
    found = re.search(r'<script type="application/json" class="relations-data">(.*?)</script>', text, re.DOTALL)
    assert json.loads(found[1])["classes"] == list(classes)


def test_without_views_the_rest_is_there(tmp_path, monkeypatch):
    text = written(tmp_path, monkeypatch)
    assert "Relation explorer" not in text
    assert "Learning curves" in text


def test_a_view_that_cannot_be_made_is_named_with_its_reason(tmp_path, monkeypatch):
    text = written(tmp_path, monkeypatch, views=page.Views(notes=("plane cannot be shown: images are gone",)))
    assert "plane cannot be shown: images are gone" in text


def test_students_that_were_handed_in_are_reported_without_the_views_that_need_a_network(tmp_path, tiny_data):
    fast = {"data": tiny_data, "runs": str(tmp_path), "epochs": 1, "batch_size": 16, "lr": 0.1, "accelerator": "cpu"}
    teacher = tiny_model(width=16)
    for method in ("kd", "ce"):
        stillroom.distill(teacher=teacher, student=tiny_model(), method=method, name=method, **fast)
    comparison = read_comparison([tmp_path])
    (summary,) = summaries = summarize(comparison)
    write_report(tmp_path / "page.html", comparison, summaries)
    text = checked(tmp_path / "page.html")
    for method in summary.methods:
        assert f"{method.last_mean:.2f}" in text
        assert method.measures[0].macs == 64 * 27 * 8 + 8 * 4
    assert "Alignment with the teacher" in text
    assert "Relation explorer" in text
    assert text.count("Not shown: ") == 1
    assert "Not shown: chosen images and features in the plane, because " in text


def test_every_pair_has_a_section_and_all_are_seen_at_a_glance(tmp_path, monkeypatch):
    text = written(tmp_path, monkeypatch, pairs=2)
    assert text.count('class="pair"') == 2
    assert "At a glance" in text
    assert all(f'<a href="#pair-{number}">big → small{number - 1}</a>' in text for number in (1, 2))


def test_one_pair_needs_no_overview(tmp_path, monkeypatch):
    assert "At a glance" not in written(tmp_path, monkeypatch)


def test_unfinished_runs_and_commands_are_named(tmp_path, monkeypatch):
    text = written(tmp_path, monkeypatch)
    assert "run-9-s0" in text
    assert "stillroom distill --method ldrld" in text
    assert "/somewhere" not in text


def test_columns_that_nothing_is_known_for_are_left_out(tmp_path, monkeypatch):
    plain = written(tmp_path / "plain", monkeypatch)
    assert "published %" not in plain
    assert "peak memory" not in plain
    assert "published %" in written(tmp_path / "known", monkeypatch, published={"dkd": 76.32})


def test_one_seed_without_reference_run_still_makes_a_page(tmp_path, monkeypatch):
    text = written(tmp_path, monkeypatch, methods=("ldrld",), seeds=1)
    assert "Classes that gained" not in text
    assert "One seed each" in text


def test_the_page_of_detectors_has_ap_errors_and_boxes_and_nothing_of_predicted_classes(tmp_path, monkeypatch):
    classes = ("<b>ring</b>", "disc", "letter O")
    comparison = read_comparison([made_box_runs(tmp_path / "runs", ("kd", "ldrld"), seeds=1, classes=classes)])
    monkeypatch.setattr(
        box_images, "val_pixels", lambda _, places: torch.zeros(len(places), 3, 48, 48, dtype=torch.uint8)
    )
    write_report(tmp_path / "page.html", comparison, summarize(comparison))
    text = checked(tmp_path / "page.html")
    for heading in ("AP against cost", "AP by class", "Kinds of errors", "Chosen images", "How the runs were made"):
        assert f"<h3>{heading}</h3>" in text
    for words in ("AP50 %", "AP small %", "Validation AP by epoch", "missed", "in which the students differ most"):
        assert words in text
    for absent in ("ECE", "agreement", "Confusions", "Relation explorer", "accuracy", "<b>ring"):
        assert absent not in text


def test_detectors_whose_images_are_gone_are_reported_without_them(tmp_path):
    comparison = read_comparison([made_box_runs(tmp_path / "runs", ("kd",), seeds=1)])
    write_report(tmp_path / "page.html", comparison, summarize(comparison))
    text = checked(tmp_path / "page.html")
    assert "Kinds of errors" in text
    assert "Not shown: chosen images, because " in text
