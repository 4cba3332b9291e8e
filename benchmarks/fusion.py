"""A teacher's forward pass with convolution and batch norm fused, beside the same teacher as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.harness import Call, compare, has_bf16, make_parser, print_header, print_table
from stillroom.models import ZOO
from stillroom.models.fusion import fused_copy

PAIRS = (("resnet32x4", "resnet8x4"), ("resnet56", "resnet20"))
BATCH = 64


def main(arguments: Sequence[str]) -> None:
    options = make_parser("fusion", __doc__, rounds=9, threads=1).parse_args(arguments)
    torch.set_num_threads(options.threads)
    print_header("A teacher's forward pass, fused and not")
    print(f"Milliseconds at batch {BATCH}, 32x32, channels last; medians of {options.rounds} interleaved rounds.\n")
    images = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last)
    rows = []
    for names in PAIRS:
        teacher, student = (ZOO[name](100).to(memory_format=torch.channels_last) for name in names)
        fused = fused_copy(teacher.eval(), images[:2])
        assert fused is not teacher
        for precision in ("32", "bf16") if has_bf16() else ("32",):
            calls: dict[str, Call] = {
                "plain": lambda net=teacher, on=precision == "bf16": predict(net, images, on),
                "fused": lambda net=fused, on=precision == "bf16": predict(net, images, on),
                "student": lambda net=student, on=precision == "bf16": learn(net, images, on),
            }
            result = compare(calls, rounds=options.rounds)
            ratio = result.ratio("fused", "plain").text()
            rows.append([names[0], precision, *(f"{1e3 * result.median(name):.0f}" for name in calls), ratio])
    print_table(["teacher", "precision", "plain", "fused", "student, forward and backward", "fused / plain"], rows)


def predict(network: nn.Module, images: Tensor, bf16: bool) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        network(images)


def learn(network: nn.Module, images: Tensor, bf16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = network(images).float().square().mean()
    loss.backward()
