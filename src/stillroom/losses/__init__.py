"""Distillation losses: tensors in, tensor out, usable without anything else of Stillroom.

Each loss is a pure function and a thin module of the same name in capitals that holds its settings.
"""

from stillroom.losses.logit.dkd import DKD, dkd
from stillroom.losses.logit.kd import KD, kd
from stillroom.losses.logit.ldrld import LDRLD, ldrld
from stillroom.losses.logit.standardize import Standardized, standardize

__all__ = ["DKD", "KD", "LDRLD", "Standardized", "dkd", "kd", "ldrld", "standardize"]
