"""What steps, losses and loaders cost on a GPU."""

from __future__ import annotations

import copy
import os
import tempfile
import traceback
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

import stillroom
from benchmarks.gpu_parts.common import Rows, networks, seconds_of, sized, value_and_gradient
from benchmarks.harness import compare
from stillroom.data import Loader, load_data
from stillroom.losses import KD, LDRLD
from stillroom.losses.logit.ldrld_settings import adaptive_decay_weights


def training_step(device: torch.device) -> Rows:
    """CIFAR-size runs, R32x4 -> R8x4 with LDRLD at batch 64, the teacher in every step, beside a public loop."""
    from benchmarks.baselines.loader import make_loader
    from benchmarks.baselines.loop import make_optimizer, train_epoch
    from benchmarks.step import noise_set

    teacher, student = networks(device)
    few, workers = noise_set(sized(device, 100, 3)), sized(device, 8, 1)
    whole = noise_set(sized(device, 781, 3))  # 49,984 images
    loader = make_loader(few.train.images, few.train.labels, batch_size=64, mean=few.mean, std=few.std, workers=workers)
    public = copy.deepcopy(student).to(device)
    asked = copy.deepcopy(teacher).to(device)
    train_epoch(asked, public, loader, make_optimizer(public))
    base = train_epoch(asked, public, loader, make_optimizer(public)).seconds / (len(few.train) // 64)
    yield f"public loop, fp32, {workers} workers, ms a step", f"{1e3 * base:.2f}"
    for name, settings in (("", {}), (", compiled", {"compile": True}), (", fp32", {"precision": "32"})):
        if settings.get("compile") and device.type != "cuda":
            continue
        with tempfile.TemporaryDirectory() as runs:
            _, record = stillroom.distill(
                teacher=copy.deepcopy(teacher), student=copy.deepcopy(student), data=whole, method="ce + ldrld",
                epochs=2, batch_size=64, schedule="milestones", runs=runs, accelerator=device.type, **settings,
            )  # fmt: skip
            seconds = record.epochs()[1]["seconds"]  # the first also warms up
        step = seconds / (len(whole.train) // 64)
        yield f"stillroom{name}, ms a step, times the public loop's speed", f"{1e3 * step:.2f}, {base / step:.1f}"
        yield f"stillroom{name}, 240 epochs of {len(whole.train)} images, minutes", f"{240 * seconds / 60:.1f}"


def ldrld_against_kl(device: torch.device) -> Rows:
    """LDRLD forward and backward against PyTorch's own KL distillation, interleaved; on a GPU its candidates too."""
    sizes = ((64, 100), (256, 200), (512, 1000), (64, 150_000))
    for batch, classes in sizes[: sized(device, 4, 1)]:
        student = torch.randn(batch, classes, device=device, requires_grad=True)
        teacher = torch.randn(batch, classes, device=device)
        calls = {"KL": _kl, "LDRLD": LDRLD()}
        wanted, correct = value_and_gradient(LDRLD(), [student.detach(), teacher], ())
        for name, call in (_candidates(device) if device.type == "cuda" else {}).items():
            try:
                value, gradient = value_and_gradient(call, [student.detach(), teacher], ())
                torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(gradient, correct, rtol=1e-4, atol=1e-7)
                calls[name] = call
            except Exception:
                traceback.print_exc()
                yield f"{name}, {batch}x{classes}", "FAILED, see above"
        passes = {
            name: lambda c=call, s=student, t=teacher: seconds_of(lambda: c(s, t).backward(), device)
            for name, call in calls.items()
        }
        found = compare(passes, rounds=25, warmup=5)
        for name in list(calls)[1:]:
            what = f"{name} / KL, forward + backward, {batch}x{classes}"
            yield what, f"{found.ratio(name, 'KL').text()} ({1e6 * found.median(name):.0f} us)"


def _candidates(device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Other ways to compute LDRLD with its default settings, for float32."""
    from benchmarks.candidates.ldrld_triton import ldrld_triton

    local = 10.5 / 22
    weights = (local * (adaptive_decay_weights(7) + torch.eye(7, dtype=torch.float64))).float().to(device)
    return {
        "LDRLD in Triton": lambda s, t: ldrld_triton(s, t, weights, 7.0, 4.0),
        "LDRLD in Triton after torch.topk": lambda s, t: ldrld_triton(s, t, weights, 7.0, 4.0, select=False),
        "LDRLD, compiled": torch.compile(LDRLD()),
    }


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    return 16 * F.kl_div((student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction="batchmean")


def loader_rate(device: torch.device) -> Rows:
    """Augmented batches from memory on the device."""
    data = load_data("glyphs100", per_class=sized(device, None, 8))
    loader = Loader(
        data.train, batch_size=64, input_format=data.input_format, augment=data.augment, shuffle=True, device=device
    )
    list(loader.epoch(0))
    seconds = seconds_of(lambda: [None for _ in loader.epoch(1)], device)
    yield "loader, 32x32, batch 64, images/s", f"{len(data.train) / seconds:,.0f}"


def recipe_parts(device: torch.device) -> Rows:
    """The step of a run with each recipe part against that of a plain run."""
    from benchmarks.recipe_cost import PARTS, measured

    teacher, student = sized(device, ("resnet32x4", "resnet8x4"), ("resnet20", "resnet8"))
    found = measured({
        "teacher": teacher, "student": student, "method": "dkd", "batch_size": 64, "accelerator": device.type,
        "rounds": sized(device, 5, 1),
    })  # fmt: skip
    for part in PARTS:
        yield f"step with {part}, times plain", found.ratio(part, "plain").text()


def imagenet_loader(device: torch.device) -> Rows:
    """JPEGs of 500x375 pixels at 224: the loader alone, then ResNet34 -> ResNet18 in bf16.

    Anchors: 2,470 images/s for training ResNet50 on one A100 (NVIDIA DeepLearningExamples), 10,000 images/s for
    training ResNet18 with FFCV. Batches come through pinned memory; flips and normalisation run on the device.
    """
    from torchvision.models import resnet18, resnet34

    from stillroom.data.augment import Augment
    from stillroom.data.decoding_workers import worker_count
    from stillroom.data.photo_generator import write_photos

    classes, workers = 8, worker_count(sized(device, os.cpu_count(), 1))
    with tempfile.TemporaryDirectory() as folder:
        write_photos(folder, classes, sized(device, 512, 2), 1)
        data = load_data(folder, image_size=sized(device, 224, 32), source="files")
        loader = Loader(
            data.train, batch_size=sized(device, 256, 4), input_format=data.input_format, device=device, shuffle=True,
            augment=Augment(pad=0, min_scale=0.08), channels_last=True, drop_last=True, workers=workers,
        )  # fmt: skip
        images = len(loader) * loader.batch_size
        alone = seconds_of(lambda: [None for _ in loader.epoch(1)], device)
        yield f"loader of JPEGs, {workers} workers, images/s", f"{images / alone:,.0f}"
        teacher, student = (make(num_classes=classes).to(device, memory_format=torch.channels_last) for make in
                            (resnet34, resnet18))  # fmt: skip
        teacher.eval()
        optimizer, loss = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9), KD()

        def step(inputs: Tensor, labels: Tensor) -> None:
            with torch.autocast(device.type, torch.bfloat16):
                with torch.no_grad():
                    wanted = teacher(inputs)
                logits = student(inputs)
            (loss(logits.float(), wanted.float()) + F.cross_entropy(logits.float(), labels)).backward()
            optimizer.step()
            optimizer.zero_grad()

        first = next(loader.epoch(2))
        for _ in range(3):
            step(first.images, first.labels)
        steps = len(loader)
        busy = seconds_of(lambda: [step(first.images, first.labels) for _ in range(steps)], device)
        whole = seconds_of(lambda: [step(batch.images, batch.labels) for batch in loader.epoch(3)], device)
        yield "ResNet34 -> ResNet18, bf16, one batch again and again, images/s", f"{images / busy:,.0f}"
        yield "the same from JPEGs, images/s", f"{images / whole:,.0f}"
        yield "the same, fraction of time waiting for data", f"{max(0.0, 1 - busy / whole):.2f}"
