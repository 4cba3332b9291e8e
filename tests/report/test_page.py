from __future__ import annotations

import html.parser
import json

import pytest
import torch
import yaml

from stillroom.engine.runs import RunFolder
from stillroom.report.page import pick_samples, verdict, write_page
from stillroom.report.table import Row, duration, read_row, summary_table


def made_run(folder, name, accuracies, agreement=None):
    path = folder / name
    path.mkdir()
    rows = [
        {"epoch": i + 1, "val_top1": a, "agreement": agreement, "images_per_second": 100.0 * (i + 1), "seconds": 30.0}
        for i, a in enumerate(accuracies)
    ]
    best = max(rows, key=lambda row: row["val_top1"])
    config = {
        "data": "d", "classes": ["a", "b"], "train_pictures": 10, "val_pictures": 1000, "epochs": 3, "batch_size": 2,
        "optimizer": "sgd", "lr": 0.1, "schedule": "cosine", "weight_decay": 0.1, "seed": 0, "method": "<b>kd</b>",
    }  # fmt: skip
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "inputs.json").write_text("{}")
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path / "summary.json").write_text(
        json.dumps({"parameters": 1234567, "best": best, "last": rows[-1], "seconds": 90.0})
    )
    environment = {"versions": {"torch": "1"}, "python": "3", "platform": "p", "gpu": None, "cpu": "c", "threads": 2}
    (path / "environment.json").write_text(json.dumps(environment))
    return RunFolder(path)


def row(name, last, agreement=None):
    return Row(name, 100, last, last, agreement, 1.0, 1.0)


def test_rows_hold_best_last_and_median_speed(tmp_path):
    got = read_row(made_run(tmp_path, "r", [50.0, 70.0, 60.0], agreement=80.0))
    assert got.cells() == ("r", "1,234,567", "70.00", "60.00", "80.00", "1:30", "200")


def test_the_terminal_table_has_every_run(tmp_path):
    table = summary_table([made_run(tmp_path, n, [50.0]) for n in ("a", "b")])
    assert table.row_count == 2


@pytest.mark.parametrize(("seconds", "text"), [(8.26, "8.3 s"), (245, "4:05"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_verdict_says_plainly_who_won_and_what_chance_explains():
    lines = verdict([row("plain", 60.0), row("kd", 59.5), row("ldrld", 70.0)], row("teacher", 80.0), 5000)
    assert "80.0 % of the 5,000" in lines[0]
    assert "“kd” loses 0.5 points" in lines[1]
    assert "within what chance explains" in lines[1]
    assert "“ldrld” gains 10.0 points" in lines[2]
    assert "more than chance explains" in lines[2]
    assert "Best of the students: “ldrld”. " in lines[3]


def test_a_tie_is_called_a_tie():
    line = verdict([row("plain", 60.0), row("kd", 69.5), row("ldrld", 70.0)], None, 5000)[-1]
    assert "“ldrld”, not distinguishable from it: “kd” (0.5 behind). " in line


def test_a_baseline_that_wins_is_called_the_best():
    assert "Best of the students: “plain”" in verdict([row("plain", 60.0), row("ldrld", 50.0)], None, 100)[-1]


def test_samples_come_from_both_sides():
    labels = torch.tensor([0, 0, 1, 1])
    eye = torch.eye(2)
    logits = {"one": eye[torch.tensor([0, 1, 1, 0])], "two": eye[torch.tensor([1, 0, 1, 0])]}
    pictures = torch.zeros(4, 3, 4, 4, dtype=torch.uint8)
    groups = pick_samples(pictures, labels, ["a", "b"], logits, better="one", than="two")
    counts = {heading: [s.label for s in samples] for heading, samples in groups.items()}
    assert list(counts.values()) == [["a"], ["a"], ["b"]]
    assert all("(1 of 4 pictures)" in heading for heading in counts)
    answers = next(iter(groups.values()))[0].answers
    assert answers["one"][0] == "a"
    assert answers["one"][2]
    assert not answers["two"][2]


class Checker(html.parser.HTMLParser):
    """Collects what a page would fetch, and what it leaves open."""

    def __init__(self):
        super().__init__()
        self.fetched, self.open = [], []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href") and not (value or "").startswith(("data:", "#")):
                self.fetched.append(value)
        if tag not in ("meta", "link", "img", "br", "path", "use"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass


def test_the_page_stands_alone_and_escapes_what_users_wrote(tmp_path):
    runs = [made_run(tmp_path, "plain", [50.0, 55.0]), made_run(tmp_path, "x & y", [50.0, 65.0], agreement=70.0)]
    write_page(tmp_path / "page.html", "A <title>", runs)
    text = (tmp_path / "page.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.fetched == []
    assert checker.open == []
    assert "&lt;b&gt;kd&lt;/b&gt;" in text
    assert "A &lt;title&gt;" in text
    assert text.count("<svg") == 2
    assert "aria-label" in text
