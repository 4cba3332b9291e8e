"""The settings of ``stillroom probe``, read and checked without PyTorch: ``stillroom --help`` must not wait for it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from stillroom.errors import InputError, did_you_mean
from stillroom.settings import described, setting

# Probe -> what it measures, in the order in which they are carried out and shown.
PROBES = {
    "calibration": "expected calibration error, reliability diagram, temperature scaling; from stored predictions",
    "cost": "images per second, latency, parameters, memory; hours of teacher, bank, tuning and training apart",
    "transfer": "accuracy of a linear classifier on frozen features, and of few shots, on the sets of --on",
    "robustness": "accuracy, and agreement with the teacher, under 15 corruptions at five severities",
    "ood": "detection of the images of --ood: AUROC and FPR95",
}
NEEDS_SET = {"transfer": "on", "ood": "ood"}  # probe -> the setting that names its sets


@described
@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """What is measured, and how."""

    what: list[str] | None = setting(
        f"probes, separated by commas: {', '.join(PROBES)}. Default: all that have the sets they need", None
    )
    on: list[str] | None = setting(
        "sets for transfer, separated by commas: names from `stillroom list data`, or folders", None
    )
    ood: list[str] | None = setting("sets whose images are to be told from the validation images, as for --on", None)
    corrupted: list[str] | None = setting(
        "folders of official corrupted images for robustness, separated by commas: CIFAR-10-C, CIFAR-100-C, "
        "ImageNet-C, Tiny-ImageNet-C",
        None,
    )
    images: int = setting("validation images for robustness, about as many of each class; 0 for all", 1000, at_least=0)
    severities: list[str] | None = setting("severities for robustness, separated by commas; default 1 to 5", None)
    root: str = setting("the folder where named sets are, or are downloaded to", "data", path=True)
    seed: int = setting("fixes all that is drawn: held-out slices, episodes, order, corruptions", 0, at_least=0)
    batch_size: int = setting("images in a step", 256, at_least=1)
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = setting("device to compute on", "auto")
    teacher: bool = setting("measure the teacher too, where it can be built again", True)
    again: bool = setting("measure again what is recorded already", False)

    @property
    def chosen(self) -> list[str]:
        """The names of the probes, in the order of :data:`PROBES`.

        Raises:
            InputError: an unknown name, or a probe without the set that it needs.
        """
        wanted = self.what or [name for name in PROBES if name not in NEEDS_SET or getattr(self, NEEDS_SET[name])]
        for name in wanted:
            if name not in PROBES:
                hint = did_you_mean(get_close_matches(name, PROBES, n=1), f"; there are {', '.join(PROBES)}")
                raise InputError(f"what={name}: there is no such probe{hint}")
            if name in NEEDS_SET and not getattr(self, NEEDS_SET[name]):
                option = NEEDS_SET[name]
                raise InputError(f"what={name}: name the set to measure it on, as in --{option} cifar10")
        for name, option in NEEDS_SET.items():
            if getattr(self, option) and name not in wanted:
                raise InputError(f"{option} is for {name}, which is not among what={','.join(wanted)}; leave it out")
        return [name for name in PROBES if name in wanted]
