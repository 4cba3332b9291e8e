from __future__ import annotations

import pytest
import torch

from stillroom.report import close_classes
from stillroom.report.close_classes_tables import close_section
from stillroom.report.page import write_report
from stillroom.report.summary import summarize
from tests.report.pages import made_comparison
from tests.report.test_close_classes import CLASSES, LABELS, with_correct
from tests.report.test_page import checked

METHODS = ("kd", "close", "alike")
# Chihuahua and Yorkshire terrier are dogs by WordNet, the others are no group.
NAMES = ["n02085620 Chihuahua", "n02094433 Yorkshire terrier", *(f"class {place}" for place in range(2, CLASSES))]
SHIFT = [0, 1, 1, 0] * 4


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    """A method that gains on the classes that the teacher confuses, and one that gains anywhere."""
    counts = {"0": [5] * CLASSES, "1": [5 + place // 4 for place in range(CLASSES)], "2": [5 + more for more in SHIFT]}
    logits = torch.zeros(len(LABELS), CLASSES)
    logits[torch.arange(len(LABELS)), LABELS ^ 1] = (LABELS // 2).float() / 2
    logits[torch.arange(len(LABELS)), LABELS] = 5.0
    teacher = close_classes.Predictions(logits, LABELS, torch.arange(len(LABELS)))
    made = made_comparison(tmp_path, monkeypatch, NAMES, METHODS)
    monkeypatch.setattr(close_classes, "predictions_of", lambda run: with_correct(counts[run.path.name.split("-")[1]]))
    monkeypatch.setattr(close_classes, "teacher_predictions_of", lambda run: teacher)
    return made


def test_the_section_says_what_is_seen_and_what_is_not(comparison):
    section = close_section(comparison.pairs[0], "kd")
    (sentence,) = section.verdict
    assert sentence.startswith("The gain over kd is more on classes that the teacher confuses")
    assert "16 classes: close (+0.9" in sentence
    assert "alike" not in sentence
    assert any(
        line.startswith("No relation between the gain over kd and closeness is seen for: alike.")
        for line in section.lines
    )
    assert any("class 14 and class 15" in line for line in section.lines)
    rows = {row.name: [entry.text for entry in row.entries] for row in section.methods.rows}
    assert rows["close"][:4] == ["+0.0 ± 0.0", "+10.0 ± 0.0", "+20.0 ± 0.0", "+30.0 ± 0.0"]
    assert rows["kd"][0] == "50.00 ± 0.00 %"
    assert rows["kd"][-2:] == ["50.0 ± 0.0", "0.0 ± 0.0"], "all errors are within the pair"
    (dogs,) = section.groups.rows
    assert (dogs.name, [entry.text for entry in dogs.entries]) == (
        "dog", ["2", "20", "100.0", "50.0 ± 0.0", "+0.0 ± 0.0", "+5.0 ± 0.0"],
    )  # fmt: skip


def test_the_page_has_the_section_the_verdict_and_the_users_groups(comparison, tmp_path):
    groups = {"last": frozenset(["class 14", "class 15"]), "alone": frozenset(["class 3"])}
    write_report(tmp_path / "page.html", comparison, summarize(comparison), views=False, groups=groups)
    text = checked(tmp_path / "page.html")
    assert "<h3>Close classes</h3>" in text
    assert text.count("The gain over kd is more on classes that the teacher confuses") == 2, "verdict and section"
    assert ">last<" in text
    assert ">alone<" not in text
    assert ">dog<" not in text


def test_without_other_methods_there_is_no_section(comparison, monkeypatch):
    monkeypatch.setattr(type(comparison.pairs[0]), "methods", ("kd",))
    assert close_section(comparison.pairs[0], "kd") is None
