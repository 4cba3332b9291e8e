"""What a GPU computes against what the CPU computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.gpu_parts.common import Rows, seconds_of, sized, value_and_gradient
from stillroom.data import Loader, load_data
from stillroom.losses import ABKD, DKD, KD, LDRLD, PLD, BiLD, LumiNet, NormKD
from stillroom.losses.protocol import needs_of

ROOT = Path(__file__).parents[2]


def losses_agree(device: torch.device) -> Rows:
    """Losses and gradients in float32 and bf16 on the device against float64 on the CPU.

    No two logits of a sample are equal: which of equal logits are the largest ones is each device's own choice.
    """
    generator = torch.Generator().manual_seed(0)
    values = torch.cat((torch.arange(-128, 0), torch.arange(1, 129))).double() / 32  # exact in bf16
    student, teacher = (
        torch.stack([values[torch.randperm(256, generator=generator)[:200]] for _ in range(256)]) for _ in range(2)
    )
    target = torch.randint(0, 200, (256,), generator=generator)
    for loss in (KD(), DKD(), LDRLD(), ABKD(), BiLD(), LumiNet(), NormKD(), PLD()):
        extra = (target,) if "target" in needs_of(loss) else ()
        for dtype in (torch.float32, torch.bfloat16):
            rounded = [logits.to(dtype) for logits in (student, teacher)]
            wanted, wanted_gradient = value_and_gradient(loss, [r.double() for r in rounded], extra)
            got, gradient = value_and_gradient(
                loss, [r.to(device) for r in rounded], tuple(e.to(device) for e in extra)
            )
            error = float((got.cpu().double() - wanted).abs() / wanted.abs())
            worst = float((gradient.cpu().double() - wanted_gradient).abs().max() / wanted_gradient.abs().max())
            name = f"{type(loss).__name__} {str(dtype).removeprefix('torch.')}"
            yield f"{name}: error of loss, of gradient (relative)", f"{error:.1e}, {worst:.1e}"


def feature_losses_agree(device: torch.device) -> Rows:
    """Every feature loss with its connectors: float32 on the device against float64 on the CPU."""
    from tests.losses.feature.test_contract import MODULES, connected, inputs, value_and_gradients

    for name in MODULES:
        if name == "crd":
            continue  # draws its negatives with the device's own generator
        wanted, gradients = value_and_gradients(name, connected(name, torch.float64), inputs(name, dtype=torch.float64))
        module, given = connected(name).to(device), inputs(name)
        moved = {key: tuple(t.to(device) for t in value) if isinstance(value, tuple)
                 else value.to(device) if hasattr(value, "to") else value for key, value in given.items()}  # fmt: skip
        got, found = value_and_gradients(name, module, moved)
        error = float((got.cpu().double() - wanted).abs() / wanted.abs().clamp_min(1e-12))
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        pairs = zip(found, gradients, strict=True)
        worst = max(float((f.cpu().double() - g).abs().max()) for f, g in pairs) / max(largest, 1e-12)
        yield f"{name}: error of loss, of gradient (relative)", f"{error:.1e}, {worst:.1e}"


def strong_views(device: torch.device) -> Rows:
    """The second view for MLKD: the same images on every device, and what it costs."""
    data = load_data("glyphs100", per_class=sized(device, 32, 2))
    shared = {"batch_size": 64, "input_format": data.input_format, "augment": data.augment, "shuffle": True}
    here = Loader(data.train, strong=True, device=device, **shared)
    on_cpu = next(Loader(data.train, strong=True, **shared).epoch(1)).strong
    worst = float((next(here.epoch(1)).strong.cpu() - on_cpu).abs().max())
    yield "strong view, largest difference from the CPU's", f"{worst:.1e}"
    plain = Loader(data.train, device=device, **shared)
    for name, loader in (("without", plain), ("with", here)):
        seconds = seconds_of(lambda loader=loader: [None for _ in loader.epoch(2)], device)
        yield f"loader {name} strong views, ms a batch of 64", f"{1e3 * seconds / len(loader):.2f}"


def gpu_tests(_: torch.device) -> Rows:
    """The tests that need a GPU, which are skipped elsewhere."""
    files = ["tests/data/test_loader.py", "tests/data/test_strong_augment.py", "tests/runtime/test_peak_memory.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:])
    yield "tests of data path and memory", (done.stdout.strip().splitlines() or [done.stderr[-200:]])[-1]
