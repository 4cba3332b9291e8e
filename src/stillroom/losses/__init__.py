"""Distillation losses: tensors in, tensor out, usable without anything else of Stillroom.

Each loss is a pure function and a thin module of the same name in capitals that holds its settings.
"""

from stillroom.losses.logit.dkd import DKD, dkd
from stillroom.losses.logit.kd import KD, kd
from stillroom.losses.logit.ldrld import LDRLD, ldrld

__all__ = ["DKD", "KD", "LDRLD", "dkd", "kd", "ldrld"]
