"""Numbers obtained by running the papers' public code; read-only, never rewritten by a test.

A subset travels with the repository. Where the full set lies beside it (``<repo>/../shared/golden``) that one is
read instead, so the same tests then check the large cases too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

LOCAL = Path(__file__).parent
FULL = Path(__file__).parents[3] / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    """One case: inputs, hyperparameters, and what the public code returned for them."""

    name: str
    kind: str
    hyper: dict[str, Any]
    arrays: dict[str, np.ndarray[Any, Any]]

    def tensor(self, key: str) -> Tensor:
        """An input or an expected array; floating ones as float64."""
        value = torch.from_numpy(np.array(self.arrays[key]))
        return value.double() if value.is_floating_point() else value

    def check(
        self,
        term: str,
        loss: Tensor,
        gradient: Tensor,
        *,
        wrt: str = "",
        rtol: float = 1e-9,
        atol: float = 1e-11,
    ) -> None:
        """Assert a term's loss and gradient: the whole one where it is stored, its norm and projection always.

        ``wrt`` names the input the gradient belongs to; empty means the first student input.
        """
        close = {"rtol": rtol, "atol": atol}
        torch.testing.assert_close(loss.detach(), self.tensor(f"loss_{term}"), **close)
        key = f"{term}_wrt_{wrt}" if wrt else term
        wave = torch.cos(torch.arange(gradient.numel(), dtype=torch.float64)).reshape(gradient.shape)
        torch.testing.assert_close(gradient.norm(), self.tensor(f"gradnorm_{key}"), **close)
        torch.testing.assert_close((wave * gradient).sum(), self.tensor(f"gradproj_{key}"), **close)
        if f"grad_{key}" in self.arrays:
            torch.testing.assert_close(gradient, self.tensor(f"grad_{key}"), **close)


@cache
def read(name: str) -> dict[str, Any]:
    """The JSON file of a method, the full one where it exists."""
    folder = FULL if (FULL / f"{name}.json").exists() else LOCAL
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return content


@cache
def arrays(method: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a method, the full set where it exists."""
    folder = FULL if (FULL / f"{method}.npz").exists() else LOCAL
    with np.load(folder / f"{method}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def cases(method: str) -> list[Golden]:
    """All cases of a method."""
    stored = arrays(method)
    return [
        Golden(
            f"{method}-{name}",
            case.get("kind", ""),
            case.get("hyper", {}),
            {key.removeprefix(f"{name}_"): value for key, value in stored.items() if key.startswith(f"{name}_")},
        )
        for name, case in read(method)["cases"].items()
    ]
