"""A teacher's logits on a GPU: from a bank, and at the teacher's own image size."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch

from benchmarks.gpu_parts.common import Rows, networks, seconds_of, sized
from benchmarks.harness import compare
from stillroom.data import Loader


def teacher_bank(device: torch.device) -> Rows:
    """An epoch on labels only, with the teacher, and with its answers from a bank."""
    from benchmarks.bank import epoch
    from benchmarks.step import noise_set

    teacher, student = networks(device)
    data = noise_set(sized(device, 300, 3))
    place = {"accelerator": device.type, "precision": "auto"}
    with tempfile.TemporaryDirectory() as folder:
        bank = {"teacher": teacher, "method": "0.1*ce + 0.9*kd", "bank": str(Path(folder) / "bank")}
        epoch(folder, student, data, **place, **bank)()
        live = {key: value for key, value in bank.items() if key != "bank"}
        kinds = {"labels only": {}, "teacher computed": live, "from the bank": bank}
        contenders = {name: epoch(folder, student, data, **place, **chosen) for name, chosen in kinds.items()}
        found = compare(contenders, rounds=sized(device, 3, 1))
    for name in contenders:
        yield f"bank: {name}, time of labels only", found.ratio(name, "labels only").text()


def teacher_formats(device: torch.device) -> Rows:
    """A teacher at its own size: its logits on the device against those on the CPU, and its images a second."""
    from benchmarks.step import noise_set
    from stillroom.input_format import InputFormat
    from stillroom.models import build_model
    from stillroom.runtime.device import make_machine
    from stillroom.teachers.torch_teacher import TorchTeacher

    data = noise_set(sized(device, 20, 2))
    side = sized(device, 224, 64)
    own = InputFormat((0.5,) * 3, (0.5,) * 3, (side, side))
    model = build_model("timm:tf_efficientnet_lite0", num_classes=1000)
    given = {"batch_size": sized(device, 256, 16), "input_format": data.input_format, "shuffle": False}
    batch = next(Loader(data.train, **given).epoch(0))
    there = next(Loader(data.train, device=device, **given).epoch(0))
    described = {"input_format": own, "shares_input": False, "class_count": 1000}
    wanted = TorchTeacher(copy.deepcopy(model), **described).predict(batch).logits
    for precision in ("32", "bf16"):
        teacher = TorchTeacher(copy.deepcopy(model), **described)
        teacher.place(make_machine(device.type, precision), there.pixels[:2], layout=torch.channels_last)
        far = (teacher.predict(there).logits.cpu() - wanted).abs().max() / wanted.abs().max()
        seconds = seconds_of(lambda teacher=teacher: teacher.predict(there), device)
        told = f"{far:.1e}, {len(batch.labels) / seconds:.0f}"
        yield f"teacher at {side} px, {precision}: relative difference, images/s", told
