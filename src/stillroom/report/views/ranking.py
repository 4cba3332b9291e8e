"""The ranks and weights of LDRLD that a view shows for a method: its own, or the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stillroom.errors import InputError
from stillroom.losses import LDRLD
from stillroom.losses.logit.ldrld_settings import PUBLISHED_DEPTH, LDRLDSettings, adaptive_decay_weights
from stillroom.methods import parse_method
from stillroom.report.aggregate import Pair
from stillroom.report.views.view_models import first_runs
from stillroom.trust import UNKNOWN, Origin


@dataclass(frozen=True)
class Ranking:
    """The part of an LDRLD that decides which pairs of classes are compared, and how strongly.

    Attributes:
        depth: how many of the student's largest logits are paired, 2 <= depth <= C.
        temperature: of the two-way softmaxes.
        own: whether the method trained with it; False for the published settings beside another method.
        weights: (depth, depth) float64, Omega by ranks; 0 on the diagonal.
    """

    depth: int
    temperature: float
    own: bool
    weights: Tensor


def ranking_of(method: str, classes: int, origin: Origin = UNKNOWN) -> Ranking:
    """Read the LDRLD out of a method's text; for a method without one take the published settings.

    Args:
        method: as ``--method`` has it. One that cannot be read here, such as a loss of one's own from elsewhere, counts
            as one without LDRLD. So does an LDRLD whose classes the student does not choose alone: its ranks need the
            teacher's logits.
        classes: of the data; the published depth is lowered to it.
        origin: where the text comes from; by default nothing that it names is imported.
    """
    try:
        parsed = parse_method(method, origin)
    except InputError:
        return _ranking(LDRLDSettings(), classes, own=False)
    loss = next((module for module in parsed.modules() if isinstance(module, LDRLD)), None)
    if loss is None or loss.settings.chosen_by != "student":
        return _ranking(LDRLDSettings(), classes, own=False)
    return _ranking(loss.settings, classes, own=True)


def rankings_of(pair: Pair) -> dict[str, Ranking]:
    """The ranking of every method of a pair, by its label."""
    found = {}
    for method, run in first_runs(pair).items():
        config = run.config()
        text = str(config.get("method", "ce"))
        found[method] = ranking_of(text, len(config["classes"]), run.trust.inside(run.path).of(text))
    return found


def shown_ranking(rankings: Mapping[str, Ranking]) -> Ranking:
    """The ranking whose temperature and depth hold for all networks of a view: of the first method that has its own."""
    return next((ranking for ranking in rankings.values() if ranking.own), next(iter(rankings.values())))


def _ranking(settings: LDRLDSettings, classes: int, *, own: bool) -> Ranking:
    depth = min(settings.depth or PUBLISHED_DEPTH, classes)
    weights = adaptive_decay_weights(depth, settings)
    if not settings.pairs:
        weights = torch.zeros_like(weights)
    return Ranking(depth, float(settings.temperature), own, weights)
