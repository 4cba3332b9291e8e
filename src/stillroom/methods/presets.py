"""The named losses and wrappers, with their default weights and sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from stillroom import losses


@dataclass(frozen=True, slots=True)
class Preset:
    """A loss by its name.

    The weights are those of the paper or its public code for one of its pairs, where they give any, and otherwise a
    plain start. Tune the weights for your own pair.

    Attributes:
        loss: the module class; its signature is the list of parameters a recipe may set.
        weight: of the loss.
        ce: of the cross-entropy on the labels.
        warmup: epochs over which the weight rises linearly to its full value.
        title: the method's name in words.
        source: paper and year.
        function: the pure function's name where it is not the loss's.
    """

    loss: type[nn.Module]
    weight: float
    ce: float
    warmup: int
    title: str
    source: str
    function: str = ""


@dataclass(frozen=True, slots=True)
class Wrapper:
    """A module that wraps another loss.

    Attributes:
        loss: the module class, whose first parameter is the loss inside.
        title: what it does, in words.
        source: paper and year.
        function: the pure function's name.
    """

    loss: type[nn.Module]
    title: str
    source: str
    function: str = ""


PRESETS: Mapping[str, Preset] = {
    "kd": Preset(losses.KD, 0.9, 0.1, 0, "Knowledge distillation", "Hinton et al., 2015"),
    "dkd": Preset(losses.DKD, 1.0, 1.0, 20, "Decoupled knowledge distillation", "Zhao et al., CVPR 2022"),
    "ldrld": Preset(
        losses.LDRLD, 1.0, 1.0, 0, "Local dense relational logit distillation", "arXiv 2507.15911, ICCV 2025"
    ),
    "nkd": Preset(losses.NKD, 1.0, 1.0, 0, "Normalised knowledge distillation", "Yang et al., ICCV 2023"),
    "dist": Preset(losses.DIST, 1.0, 1.0, 0, "Distillation from a stronger teacher", "Huang et al., NeurIPS 2022"),
    "ttm": Preset(losses.TTM, 45.0, 1.0, 0, "Transformed teacher matching", "Zheng and Yang, ICLR 2024"),
    "wttm": Preset(losses.WTTM, 4.0, 1.0, 0, "Weighted transformed teacher matching", "Zheng and Yang, ICLR 2024"),
    "wsld": Preset(losses.WSLD, 2.5, 1.0, 0, "Weighted soft label distillation", "Zhou et al., ICLR 2021"),
    "rld": Preset(losses.RLD, 1.0, 1.0, 20, "Refined logit distillation", "ICCV 2025"),
    "ctkd": Preset(losses.CTKD, 0.9, 0.1, 0, "Curriculum temperature", "Li et al., AAAI 2023"),
    "mlkd": Preset(losses.MLKD, 0.9, 0.1, 0, "Multi-level logit distillation", "Jin et al., CVPR 2023"),
    "normkd": Preset(losses.NormKD, 0.9, 0.1, 0, "Normalised logits", "Chi et al., arXiv 2308.00520, 2023"),
    "normdkd": Preset(losses.NormDKD, 1.0, 1.0, 20, "DKD of normalised logits", "Chi et al., arXiv 2308.00520, 2023"),
    "crld": Preset(losses.CRLD, 1.0, 1.0, 0, "Cross-view consistency", "Zhang et al., ACM MM 2024"),
    "luminet": Preset(losses.LumiNet, 1089.0, 2.0, 20, "Logits standardised by class", "Hossain et al., TMLR 2025"),
    "bild": Preset(losses.BiLD, 1.0, 1.0, 0, "Bi-directional logits difference", "Li et al., COLING 2025"),
    "pld": Preset(losses.PLD, 1.0, 0.0, 0, "Plackett-Luce distillation", "Bassam et al., NeurIPS 2025"),
    "gkl": Preset(losses.GKL, 1.0, 1.0, 20, "Generalized Kullback-Leibler loss", "DKL, Cui et al., NeurIPS 2024"),
    "wkd_l": Preset(losses.WKDL, 1.0, 1.0, 0, "Wasserstein distance of logits", "WKD, Lv et al., NeurIPS 2024"),
    "abkd": Preset(losses.ABKD, 32.0, 1.0, 0, "Alpha-beta divergence", "Wang et al., ICML 2025"),
    "hard": Preset(
        losses.HardLabels, 0.5, 0.5, 0, "Hard labels of the teacher", "Touvron et al., ICML 2021", "hard_labels"
    ),
    "fitnet": Preset(losses.FitNet, 100.0, 1.0, 0, "Hints from a middle layer", "Romero et al., ICLR 2015"),
    "at": Preset(losses.AT, 1000.0, 1.0, 0, "Attention transfer", "Zagoruyko and Komodakis, ICLR 2017"),
    "sp": Preset(losses.SP, 3000.0, 1.0, 0, "Similarity preserving", "Tung and Mori, ICCV 2019"),
    "cc": Preset(losses.CC, 0.02, 1.0, 0, "Correlation congruence", "Peng et al., ICCV 2019"),
    "vid": Preset(losses.VID, 1.0, 1.0, 0, "Variational information distillation", "Ahn et al., CVPR 2019"),
    "rkd": Preset(losses.RKD, 1.0, 1.0, 0, "Relational knowledge distillation", "Park et al., CVPR 2019"),
    "pkt": Preset(losses.PKT, 30000.0, 1.0, 0, "Probabilistic knowledge transfer", "Passalis and Tefas, ECCV 2018"),
    "nst": Preset(losses.NST, 50.0, 1.0, 0, "Neuron selectivity transfer", "Huang and Wang, 2017"),
    "fsp": Preset(losses.FSP, 50.0, 1.0, 0, "Flow of the solution procedure", "Yim et al., CVPR 2017"),
    "ft": Preset(losses.FT, 200.0, 1.0, 0, "Factor transfer", "Kim et al., NeurIPS 2018"),
    "ab": Preset(losses.AB, 1.0, 1.0, 0, "Activation boundaries", "Heo et al., AAAI 2019"),
    "crd": Preset(losses.CRD, 0.8, 1.0, 0, "Contrastive representation distillation", "Tian et al., ICLR 2020"),
    "ofd": Preset(losses.OFD, 0.001, 1.0, 0, "Overhaul of feature distillation", "Heo et al., ICCV 2019"),
    "reviewkd": Preset(losses.ReviewKD, 5.0, 1.0, 20, "Knowledge review", "Chen et al., CVPR 2021"),
    "itrd": Preset(
        losses.ITRD, 1.0, 1.0, 0, "Information-theoretic representation distillation", "Miles et al., BMVC 2022"
    ),
    "simkd": Preset(losses.SimKD, 1.0, 0.0, 0, "Reused teacher classifier", "Chen et al., CVPR 2022"),
    "catkd": Preset(losses.CATKD, 40.0, 1.0, 0, "Class attention transfer", "Guo et al., CVPR 2023"),
    "ickd": Preset(losses.ICKD, 2.5, 1.0, 0, "Inter-channel correlation", "Liu et al., ICCV 2021"),
    "srd": Preset(losses.SRD, 1.0, 1.0, 0, "Simple recipe distillation", "Miles and Mikolajczyk, AAAI 2024"),
    "ofa": Preset(losses.OFA, 1.0, 1.0, 0, "One for all, across architectures", "Hao et al., NeurIPS 2023"),
    "wkd_f": Preset(losses.WKDF, 0.08, 1.0, 0, "Wasserstein distance of features", "WKD, Lv et al., NeurIPS 2024"),
    "embed_cosine": Preset(losses.EmbedCosine, 1.0, 1.0, 0, "Cosine of embeddings", "Grill et al., NeurIPS 2020"),
    "embed_mse": Preset(losses.EmbedMSE, 1.0, 1.0, 0, "Squared distance of embeddings", "Romero et al., ICLR 2015"),
    "embed_queue": Preset(
        losses.EmbedQueue, 1.0, 1.0, 0, "Similarities to a queue of embeddings", "SEED, Fang et al., ICLR 2021"
    ),
    "swap": Preset(losses.SWAP, 1.0, 0.0, 0, "KD with the teacher's mistakes swapped away", "arXiv 1911.07471"),
    "rc": Preset(losses.RC, 0.1, 1.0, 0, "Self-correction from the student's own logits", "public code of RLD"),
    "revision": Preset(losses.REVISION, 1.0, 0.0, 0, "Label revision", "Lan et al., arXiv 2404.03693"),
    "uskd": Preset(losses.USKD, 1.0, 1.0, 0, "Self-distillation without a teacher", "Yang et al., ICCV 2023"),
}


WRAPPERS: Mapping[str, Wrapper] = {
    "standardized": Wrapper(
        losses.Standardized, "Z-scores of both logits before LOSS", "LSKD, Sun et al., CVPR 2024", "standardize"
    ),
    "sdd": Wrapper(losses.SDD, "LOSS on the logits of image regions, coarse to fine", "SDD, Wei et al., CVPR 2024"),
    "foreground": Wrapper(losses.Foreground, "LOSS on the logits without background, their first column", "Stillroom"),
}
