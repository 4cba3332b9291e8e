"""The Triton kernel that waits for a GPU: right in Triton's interpreter, and compiled for the GPUs it is meant for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from stillroom.losses.kernels.ldrld import ldrld_closed_form
from stillroom.losses.logit.ldrld_settings import adaptive_decay_weights

pytest.importorskip("triton")

CASES = {  # shape, depth, weight of RNTK, logits in a block
    "one block": ((5, 100), 7, 7.0, 1024),
    "many blocks": ((3, 200), 5, 7.0, 64),
    "two others": ((4, 9), 7, 7.0, 4),
    "no others": ((2, 8), 8, 7.0, 4),
    "no RNTK": ((3, 50), 2, 0.0, 16),
}


def test_the_kernel_equals_the_closed_form():
    # Triton decides while it is imported whether it interprets, so this takes a process of its own.
    call = [sys.executable, "-c", "from tests.benchmarks.test_candidates import check_interpreted as c; c()"]
    done = subprocess.run(
        call, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["20", "agree"]


def check_interpreted():
    from benchmarks.candidates import ldrld_triton as candidate

    count = 0
    for name, (shape, depth, rntk_weight, block) in CASES.items():
        candidate.LARGEST_BLOCK = block
        for dtype, allowed in ((torch.float32, 1e-6), (torch.bfloat16, 2**-7)):
            generator = torch.Generator().manual_seed(0)
            batch, classes = shape
            # Distinct in bfloat16 too: torch.topk may rank equal logits either way.
            distinct = torch.stack([torch.randperm(classes, generator=generator) for _ in range(batch)]).to(dtype) / 8
            teacher = (3 * torch.randn(shape, generator=generator)).to(dtype)
            weights = adaptive_decay_weights(depth) + 0.7 * torch.eye(depth)
            for select in (True, False):
                student = distinct.clone()
                if select:
                    student[0, 1:4] = student[0].max()  # the lower class goes first
                narrow, wide = student.clone().requires_grad_(), student.double().requires_grad_()
                loss = candidate.ldrld_triton(narrow, teacher, weights.float(), rntk_weight, 4.0, select=select)
                wanted = ldrld_closed_form(wide, teacher.double(), weights, rntk_weight, 4.0)
                (got,), (correct,) = (torch.autograd.grad(*both) for both in ((loss, narrow), (wanted, wide)))
                said = f"{name}, {dtype}, {'own selection' if select else 'topk'}"
                assert abs(float(loss.detach()) / float(wanted.detach()) - 1) < 1e-6, said
                assert float((got.double() - correct).abs().max() / correct.abs().max()) < allowed, said
                count += 1
    print(count, "agree")


@pytest.mark.parametrize("select", [True, False], ids=["own selection", "topk"])
def test_the_kernel_compiles_for_hopper(select):
    import triton
    from benchmarks.candidates.ldrld_triton import _row
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {"DEPTH": 7, "RANKS": 8, "BLOCK": 128, "SELECT": select, "REST": True}
    kinds = dict.fromkeys(("student", "teacher", "gradient"), "*bf16") | dict.fromkeys(("weights", "rows"), "*fp32")
    kinds |= {"classes": "i32", "inverse": "fp32", "rntk_weight": "fp32", "slope": "fp32"}
    kinds |= {"top": "*bf16" if select else "*i64"} | dict.fromkeys(constants, "constexpr")
    source = ASTSource(_row, signature={name: kinds[name] for name in _row.arg_names}, constexprs=constants)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
