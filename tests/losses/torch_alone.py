"""Run as a script: losses and optimizers work where torch and its dependencies are the only installed packages.

Every other installed package, NumPy included, cannot be imported. Prints the number of losses.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import warnings
from importlib.machinery import ModuleSpec, PathFinder
from typing import ClassVar


def torch_and_its_dependencies() -> set[str]:
    """Names of distributions."""
    found: set[str] = set()
    waiting = ["torch"]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if name not in found:
            found.add(name)
            waiting += [re.match(r"[\w.-]+", line)[0] for line in required if "extra ==" not in line]
    return found


class OnlyThese(PathFinder):
    """Finds what is installed, but for the modules of all distributions that are not allowed."""

    blocked: ClassVar[set[str]] = set()

    @classmethod
    def find_spec(cls, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return None if fullname.partition(".")[0] in cls.blocked else super().find_spec(fullname, path, target)


def allow(allowed: set[str]) -> None:
    """Let only these distributions, Python's own modules and ours be imported from now on."""
    for module, names in importlib.metadata.packages_distributions().items():
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & allowed:
            OnlyThese.blocked.add(module)
    sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyThese


allow({*torch_and_its_dependencies(), "stillroom"})
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch  # noqa: E402
from torch import nn  # noqa: E402

from stillroom import losses, optim  # noqa: E402
from stillroom.losses.protocol import connect_needs_of, needs_of  # noqa: E402

LEAVES = {  # of which a loss takes any; all of one width, so that each fits every loss
    "logits": lambda: torch.randn(6, 4),
    "logits_strong": lambda: torch.randn(6, 4),
    "features": lambda: tuple(torch.randn(6, 8, size, size) for size in (8, 4)),
    "maps": lambda: tuple(torch.randn(6, 8, size, size) for size in (8, 4)),
    "preact_maps": lambda: tuple(torch.randn(6, 8, size, size) for size in (8, 4)),
    "final_map": lambda: torch.randn(6, 8, 4, 4),
    "embedding": lambda: torch.randn(6, 8),
    "head": lambda: nn.Linear(8, 4),
}
WRAPPED = {"Foreground", "SDD", "Standardized"}


def inputs() -> dict[str, object]:
    """Everything that a loss may take."""
    found: dict[str, object] = {
        f"{side}_{part}": make() for side in ("student", "teacher") for part, make in LEAVES.items()
    }
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    return found | {"target": labels, "ids": torch.arange(6), "epoch": 1, "train_labels": labels}


def run(loss: nn.Module) -> None:
    """Forward and backward."""
    given = inputs()
    if connect_needs_of(loss):
        loss.connect(**{name: given[name] for name in connect_needs_of(loss)})
    for name, value in given.items():
        for tensor in value if isinstance(value, tuple) else (value,):
            if name.startswith("student") and isinstance(tensor, torch.Tensor):
                tensor.requires_grad_()
    value = loss(**{name: given[name] for name in needs_of(loss)})
    value.backward()
    assert value.isfinite(), type(loss).__name__


def step(kind: type[optim.StreamOptimizer]) -> None:
    """One step of an optimizer with several gradient streams."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = kind([weight], lr=0.1)
    optimizer.accumulate(**{stream: weight.sum() for stream in optimizer.streams})
    optimizer.step()
    assert (weight < 1).all(), kind.__name__


def main() -> None:
    torch.manual_seed(0)
    for blocked in ("numpy", "timm", "yaml", "rich"):
        try:
            __import__(blocked)
        except ModuleNotFoundError:
            continue
        raise AssertionError(f"{blocked} can be imported")
    kinds = [kind for name in losses.__all__ if isinstance(kind := getattr(losses, name), type)]
    for kind in kinds:
        run(kind(losses.KD()) if kind.__name__ in WRAPPED else kind())
    step(optim.DOT)
    step(optim.DeepKD)
    print(len(kinds))


if __name__ == "__main__":
    main()
