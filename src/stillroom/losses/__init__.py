"""Distillation losses: tensors in, scalar out. They need torch only and work without the rest of Stillroom.

Each loss is a pure function, such as ``kd``, and a module that holds its settings, such as ``KD``. Where a loss has
trainable connectors, the module's ``connect`` builds them. ``stillroom.losses.protocol`` says what a module declares.
"""

from stillroom.losses.embedding.embed_cosine import EmbedCosine, embed_cosine
from stillroom.losses.embedding.embed_mse import EmbedMSE, embed_mse
from stillroom.losses.embedding.embed_queue import EmbedQueue, embed_queue
from stillroom.losses.feature.ab import AB, ab
from stillroom.losses.feature.at import AT, at
from stillroom.losses.feature.catkd import CATKD, catkd
from stillroom.losses.feature.cc import CC, cc
from stillroom.losses.feature.crd import CRD, crd
from stillroom.losses.feature.fitnet import FitNet, fitnet
from stillroom.losses.feature.fsp import FSP, fsp
from stillroom.losses.feature.ft import FT, ft
from stillroom.losses.feature.ickd import ICKD, ickd
from stillroom.losses.feature.itrd import ITRD, itrd
from stillroom.losses.feature.nst import NST, nst
from stillroom.losses.feature.ofa import OFA, ofa
from stillroom.losses.feature.ofd import OFD, ofd
from stillroom.losses.feature.pkt import PKT, pkt
from stillroom.losses.feature.reviewkd import ReviewKD, reviewkd
from stillroom.losses.feature.rkd import RKD, rkd
from stillroom.losses.feature.simkd import SimKD, simkd
from stillroom.losses.feature.sp import SP, sp
from stillroom.losses.feature.srd import SRD, srd
from stillroom.losses.feature.vid import VID, vid
from stillroom.losses.feature.wkd_f import WKDF, wkd_f
from stillroom.losses.logit.abkd import ABKD, abkd
from stillroom.losses.logit.bild import BiLD, bild
from stillroom.losses.logit.crld import CRLD, crld
from stillroom.losses.logit.ctkd import CTKD, ctkd
from stillroom.losses.logit.dist import DIST, dist
from stillroom.losses.logit.dkd import DKD, dkd
from stillroom.losses.logit.foreground import Foreground, foreground
from stillroom.losses.logit.gkl import GKL, gkl
from stillroom.losses.logit.hard_labels import HardLabels, hard_labels
from stillroom.losses.logit.kd import KD, kd
from stillroom.losses.logit.ldrld import LDRLD, ldrld
from stillroom.losses.logit.luminet import LumiNet, luminet
from stillroom.losses.logit.mlkd import MLKD, mlkd, mlkd_terms
from stillroom.losses.logit.nkd import NKD, nkd
from stillroom.losses.logit.normkd import NormDKD, NormKD, normdkd, normkd
from stillroom.losses.logit.pld import PLD, pld
from stillroom.losses.logit.rc import RC, rc
from stillroom.losses.logit.revision import REVISION, revision
from stillroom.losses.logit.rld import RLD, rld
from stillroom.losses.logit.sdd import SDD, region_logits, sdd
from stillroom.losses.logit.standardize import Standardized, standardize
from stillroom.losses.logit.swap import SWAP, swap
from stillroom.losses.logit.ttm import TTM, WTTM, ttm, wttm
from stillroom.losses.logit.uskd import USKD, uskd
from stillroom.losses.logit.wkd_l import WKDL, class_cost, wkd_l
from stillroom.losses.logit.wsld import WSLD, wsld

__all__ = [
    "AB",
    "ABKD",
    "AT",
    "CATKD",
    "CC",
    "CRD",
    "CRLD",
    "CTKD",
    "DIST",
    "DKD",
    "FSP",
    "FT",
    "GKL",
    "ICKD",
    "ITRD",
    "KD",
    "LDRLD",
    "MLKD",
    "NKD",
    "NST",
    "OFA",
    "OFD",
    "PKT",
    "PLD",
    "RC",
    "REVISION",
    "RKD",
    "RLD",
    "SDD",
    "SP",
    "SRD",
    "SWAP",
    "TTM",
    "USKD",
    "VID",
    "WKDF",
    "WKDL",
    "WSLD",
    "WTTM",
    "BiLD",
    "EmbedCosine",
    "EmbedMSE",
    "EmbedQueue",
    "FitNet",
    "Foreground",
    "HardLabels",
    "LumiNet",
    "NormDKD",
    "NormKD",
    "ReviewKD",
    "SimKD",
    "Standardized",
    "ab",
    "abkd",
    "at",
    "bild",
    "catkd",
    "cc",
    "class_cost",
    "crd",
    "crld",
    "ctkd",
    "dist",
    "dkd",
    "embed_cosine",
    "embed_mse",
    "embed_queue",
    "fitnet",
    "foreground",
    "fsp",
    "ft",
    "gkl",
    "hard_labels",
    "ickd",
    "itrd",
    "kd",
    "ldrld",
    "luminet",
    "mlkd",
    "mlkd_terms",
    "nkd",
    "normdkd",
    "normkd",
    "nst",
    "ofa",
    "ofd",
    "pkt",
    "pld",
    "rc",
    "region_logits",
    "reviewkd",
    "revision",
    "rkd",
    "rld",
    "sdd",
    "simkd",
    "sp",
    "srd",
    "standardize",
    "swap",
    "ttm",
    "uskd",
    "vid",
    "wkd_f",
    "wkd_l",
    "wsld",
    "wttm",
]
