"""Everything that needs a GPU, in order of value; one table comes last.

python benchmarks/gpu.py                 on a machine with CUDA
python benchmarks/gpu.py --device cpu    to try the script itself, with little of everything

A part is a function that takes the device and yields (what, value) rows; PARTS has them in order of value. After
--minutes no further row is begun, so that the table still comes where the time on a machine is short.

On a machine that reaches no package index, bring wheels for its Python of what it lacks. One image with PyTorch, timm
and torchmetrics lacked docstring-parser, platformdirs, shtab, simplejpeg, faster-coco-eval, and for tunings optuna,
colorlog, pebble and captum. Stillroom itself has to be a wheel, too (`uv build --wheel`): runs record its version.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks and tests, for `python benchmarks/gpu.py`

from benchmarks.gpu_parts.agreement import feature_losses_agree, gpu_tests, losses_agree, strong_views
from benchmarks.gpu_parts.runs import comparison, detectors, distillation, every_method
from benchmarks.gpu_parts.speed import imagenet_loader, ldrld_against_kl, loader_rate, recipe_parts, training_step
from benchmarks.gpu_parts.teachers import teacher_bank, teacher_formats

PARTS = (losses_agree, training_step, ldrld_against_kl, detectors, distillation, teacher_bank, imagenet_loader,
         gpu_tests, loader_rate, teacher_formats, strong_views, feature_losses_agree, recipe_parts, every_method,
         comparison)  # fmt: skip
ON_REQUEST = (comparison,)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="*", default=[part.__name__ for part in PARTS if part not in ON_REQUEST])
    parser.add_argument("--minutes", type=float, default=8.0, help="then no further row is begun; default 8")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    device = torch.device(options.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    rows = [("device", where), ("torch", torch.__version__)]
    for part in PARTS:
        if part.__name__ not in options.parts:
            continue
        begin = time.monotonic()
        if begin > end:
            rows.append((part.__name__, "not begun, out of time"))
            continue
        try:
            for row in part(device):
                print(*row, sep=": ", flush=True)
                rows.append(row)
                if time.monotonic() > end:
                    rows.append((part.__name__, "cut short, out of time"))
                    break
        except Exception:
            traceback.print_exc()
            rows.append((part.__name__, "FAILED, see above"))
        print(f"{part.__name__} took {time.monotonic() - begin:.0f} s", flush=True)
    print("\n| what | value |\n|---|---|")
    print("\n".join(f"| {what} | {value} |" for what, value in rows))


if __name__ == "__main__":
    main()
