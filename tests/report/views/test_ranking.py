from __future__ import annotations

import pytest
import torch

from stillroom.report.views.ranking import ranking_of, rankings_of, shown_ranking
from tests.report.views.made import made_pair, random_logits

C = 6


def test_the_method_s_own_ldrld_decides_also_inside_a_wrapper():
    own = ranking_of("0.1*ce + standardized(ldrld(depth=4, temperature=2, erd=false))", C)
    assert (own.depth, own.temperature, own.own) == (4, 2.0, True)
    assert float(own.weights[0, 1]) == pytest.approx(1 / 2.5)


def test_other_methods_are_held_against_ldrld_as_published():
    published = ranking_of("dkd", 100)
    assert (published.depth, published.temperature, published.own) == (7, 4.0, False)
    assert torch.equal(published.weights, ranking_of("ldrld", 100).weights)
    assert ranking_of("ce", 3).depth == 3
    assert not ranking_of("nowhere.to_be_found.Loss", 3).own
    assert not ranking_of("ldrld(depth=4, chosen_by='teacher')", C).own  # its ranks need the teacher's logits


def test_a_view_shows_the_ranking_of_the_first_method_that_has_its_own(monkeypatch):
    logits = {"kd": random_logits(1), "ours": random_logits(2)}
    rankings = rankings_of(made_pair(monkeypatch, {"kd": "kd", "ours": "ldrld(depth=3, temperature=2)"}, logits))
    assert list(rankings) == ["kd", "ours"]
    assert (shown_ranking(rankings).depth, shown_ranking(rankings).temperature) == (3, 2.0)
