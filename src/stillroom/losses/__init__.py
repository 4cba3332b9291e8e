"""Distillation losses: tensors in, tensor out, usable without anything else of Stillroom.

Each loss is a pure function and a thin module of the same name in capitals that holds its settings.
"""

from stillroom.losses.logit.dist import DIST, dist
from stillroom.losses.logit.dkd import DKD, dkd
from stillroom.losses.logit.kd import KD, kd
from stillroom.losses.logit.ldrld import LDRLD, ldrld
from stillroom.losses.logit.nkd import NKD, nkd
from stillroom.losses.logit.rld import RLD, rld
from stillroom.losses.logit.standardize import Standardized, standardize
from stillroom.losses.logit.ttm import TTM, WTTM, ttm, wttm
from stillroom.losses.logit.wsld import WSLD, wsld

__all__ = [
    "DIST",
    "DKD",
    "KD",
    "LDRLD",
    "NKD",
    "RLD",
    "TTM",
    "WSLD",
    "WTTM",
    "Standardized",
    "dist",
    "dkd",
    "kd",
    "ldrld",
    "nkd",
    "rld",
    "standardize",
    "ttm",
    "wsld",
    "wttm",
]
