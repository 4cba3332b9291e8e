"""What bf16 gains or costs in training: steps of networks in bf16 against float32, interleaved.

    python -m benchmarks precision

Forward and backward passes with random weights and images; speed does not depend on what they hold.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.harness import compare, print_header, print_table
from stillroom.resolve_model import build_model

# Name, side of the images, images in a batch.
NETWORKS = (
    ("resnet20", 32, 32),
    ("wrn_16_2", 32, 16),
    ("ShuffleV1", 32, 16),
    ("ShuffleV2", 32, 16),
    ("MobileNetV2", 32, 16),
    ("torchvision:shufflenet_v2_x0_5", 64, 32),
    ("torchvision:mobilenet_v3_small", 64, 16),
    ("torchvision:mnasnet0_5", 64, 16),
    ("timm:tf_efficientnet_lite0", 96, 8),
    ("torchvision:resnet18", 64, 16),
)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks precision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    print_header(f"A training step in bf16 and in float32, {torch.get_num_threads()} threads, channels last")
    rows = []
    for name, side, batch in NETWORKS:
        calls = {precision: _step(name, side, batch, precision) for precision in ("32", "bf16")}
        found = compare(calls, rounds=options.rounds)
        speed = f"{batch / found.median('32'):.0f}"
        rows.append([f"`{name}`", str(side), speed, found.ratio("bf16", "32").text()])
    print_table(["network", "pixels", "float32, images/s", "time in bf16, times float32 (quartiles)"], rows)


def _step(name: str, side: int, batch: int, precision: str) -> Callable[[], Tensor]:
    """A forward and a backward pass."""
    model: nn.Module = build_model(name, num_classes=50).to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)

    def step() -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        loss: Tensor = logits.float().logsumexp(1).sum()
        loss.backward()
        return loss

    return step
