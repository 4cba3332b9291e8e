"""Small teacher banks, and ways to fill and look at them."""

from __future__ import annotations

from dataclasses import asdict

import torch

from stillroom.data import Augment
from stillroom.input_format import InputFormat
from stillroom.teachers import bank_rows
from stillroom.teachers.bank import TeacherBank, View
from stillroom.teachers.bank_key import BankKey

FORMAT = InputFormat((0.5,) * 3, (0.25,) * 3)
KEY = BankKey("t", "p", asdict(Augment()), repr(FORMAT), seed=1, precision="32", classes=5, count=50)
PLENTY = 10**9


def make(folder, *, positions=50, key=KEY, limit=PLENTY, said=None, epochs=2, **place):
    views = {name: View(positions, epochs) for name in ("logits", "logits_strong", "val")}
    say = (lambda text: None) if said is None else said.append
    return TeacherBank(folder, key, views=views, limit_bytes=limit, say=say, **place)


def rounded(logits, bits=16):
    return bank_rows.round_rows(logits, bits)


def logits_of(count=50, seed=0, classes=5):
    return 5 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def fill(a_bank, logits, *, batch=10, start=0, view="logits", epoch=1):
    """Go through an epoch as the loop does; returns the positions that had to be computed."""
    computed = []
    for first in range(start, len(logits), batch):
        rows = logits[first : first + batch]
        if a_bank.read(view, epoch, first, len(rows)) is None:
            a_bank.write(view, epoch, first, rows)
            computed += range(first, first + len(rows))
    return computed


def blocks(a_bank):
    return sorted(a_bank.files.path.glob("*.safetensors"))


def total(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
