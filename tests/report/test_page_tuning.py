from __future__ import annotations

from dataclasses import replace

from stillroom.report.aggregate import read_comparison
from stillroom.report.page import write_report
from stillroom.report.page_tuning import tuning_section
from stillroom.report.summary import summarize
from stillroom.report.tuning_file import read_tuning, write_trials
from tests.report.test_page import checked
from tests.report.tunings import made_tuning

PLACES = {"KD": 1, "LDRLD": 2}


def entries(table, method, number):
    """The cells of a trial by the heading of their column."""
    row = next(row for row in table.rows if row.name == method and row.entries[0].order == number)
    return dict(zip((column.head for column in table.columns), row.entries, strict=True))


def test_the_section_tells_the_budget_the_winners_and_every_trial(tmp_path):
    section = tuning_section(read_tuning(made_tuning(tmp_path).folder), PLACES)
    assert section.sentences == [
        "Each of 2 methods has the same budget: 4 trials of 2 epochs, 1 of them again with 6 epochs; 14 epochs "
        "in all. Each rung is a complete run with the whole schedule. Trials are judged on 10 % of the training images "
        "of each class, which are held out. The validation images are not used.",
        "Most probably ahead at the first rung: after 1 trial KD (56 %); after 2 to 4 trials LDRLD (67 % to 100 %).",
        "Best held-out accuracy at the longest rung: LDRLD 56.50 % (trial 2), KD 55.50 % (trial 1).",
    ]
    won, lost = (entries(section.trials, "KD", number) for number in (1, 0))
    assert (won["2 epochs, %"].text, won["6 epochs, %"].text, won["state"].text) == ("44.00", "55.50", "winner")
    assert (lost["6 epochs, %"].text, lost["state"].text, lost["lr"].text) == ("–", "stopped", "0.05")
    assert lost["parameters"].text == "kd.weight 9"
    assert len(section.trials.rows) == 8
    assert "KD 55.5 % after 14 epochs; LDRLD 56.5 % after 14 epochs" in section.curve.text
    chances, expected = section.chances
    assert [[entry.text for entry in row.entries] for row in chances.rows] == [
        ["56 %", "33 %", "0 %"],
        ["44 %", "67 %", "100 %"],
    ]
    assert [entry.text for entry in expected.rows[0].entries] == ["41.75", "42.83", "44.00"]


def test_a_page_says_that_the_teacher_knew_the_held_out_images_and_that_they_are_few(tmp_path):
    tuning = replace(read_tuning(made_tuning(tmp_path).folder), held_out_images=500, seen_by_teacher=500)
    assert tuning_section(tuning, PLACES).sentences[1:3] == [caution.reason for caution in tuning.cautions]


def test_before_its_end_a_search_says_who_leads_and_its_page_needs_no_final_runs(tmp_path):
    tuning = made_tuning(tmp_path / "search", ended=False)
    found = read_tuning(tuning.folder)
    trials = (replace(found.trials[0], problems={6: "Diverged: loss became nan"}), *found.trials[1:])
    write_trials(tuning.folder, trials)
    comparison = read_comparison([tuning.folder])
    write_report(tmp_path / "page.html", comparison, summarize(comparison))
    text = checked(tmp_path / "page.html")
    assert "<title>Tuning search</title>" in text
    assert "The search has not ended: 10 of 10 runs are done. KD leads so far with 55.50 % (trial 1, 6 epochs)." in text
    assert 'class="bad">diverged</td>' in text
    assert "searching" in text
    for heading in ("Best accuracy against budget", "Who is ahead after how many trials", "Every trial"):
        assert f"<h3>{heading}</h3>" in text


def test_a_search_that_has_just_begun_is_shown(tmp_path):
    tuning = made_tuning(tmp_path, ended=False)
    write_trials(tmp_path, [])
    section = tuning_section(read_tuning(tuning.folder), PLACES)
    assert section.curve is None
    assert section.chances == []
    assert section.sentences[-1] == "The search has not ended: 0 of 10 runs are done."


def test_why_an_importance_is_missing_is_said_in_one_sentence(tmp_path):
    tuning = read_tuning(made_tuning(tmp_path).folder)
    few = replace(tuning, trials=tuple(trial for trial in tuning.trials if trial.method == "KD" or trial.number < 3))
    section = tuning_section(few, PLACES)
    (note,) = section.notes
    assert "it requires 4 trials with a score, and LDRLD has 3" in note
    assert "LDRLD" not in section.importances
