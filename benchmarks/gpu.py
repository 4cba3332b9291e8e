"""Everything that needs a GPU, in order of value; one table comes last.

python benchmarks/gpu.py                 on a machine with CUDA
python benchmarks/gpu.py --device cpu    to try the script itself, with little of everything

A part is a function that takes the device and yields (what, value) rows; PARTS has them in order of value. After
--minutes no further row is begun, so that the table still comes where the time on a machine is short.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks and tests, for `python benchmarks/gpu.py`

import stillroom
from stillroom.data import Loader, load_data
from stillroom.engine.run_folder import RunFolder
from stillroom.losses import ABKD, DKD, KD, LDRLD, PLD, BiLD, LumiNet, NormKD
from stillroom.losses.logit.ldrld_settings import adaptive_decay_weights
from stillroom.losses.protocol import needs_of

Rows = Iterator[tuple[str, str]]


def _sized(device: torch.device, measured: Any, tried: Any) -> Any:
    """What a part is measured with on a GPU, or what is enough to try the script elsewhere."""
    return measured if device.type == "cuda" else tried


def _networks(device: torch.device) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The published pair, untrained: speed does not depend on what they know."""
    from benchmarks.step import networks

    return networks(_sized(device, "resnet32x4-resnet8x4", "resnet20-resnet8"))


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
            wanted, wanted_gradient = _value(loss, [r.double() for r in rounded], extra)
            got, gradient = _value(loss, [r.to(device) for r in rounded], tuple(e.to(device) for e in extra))
            error = float((got.cpu().double() - wanted).abs() / wanted.abs())
            worst = float((gradient.cpu().double() - wanted_gradient).abs().max() / wanted_gradient.abs().max())
            name = f"{type(loss).__name__} {str(dtype).removeprefix('torch.')}"
            yield f"{name}: error of loss, of gradient (relative)", f"{error:.1e}, {worst:.1e}"


def _value(loss: Callable[..., Tensor], logits: list[Tensor], extra: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    student = logits[0].clone().requires_grad_()
    value = loss(student, logits[1], *extra)
    value.backward()
    assert student.grad is not None
    return value.detach(), student.grad


def ldrld_against_kl(device: torch.device) -> Rows:
    """LDRLD forward and backward against PyTorch's own KL distillation, interleaved; on a GPU its candidates too."""
    sizes = ((64, 100), (256, 200), (512, 1000), (64, 150_000))
    for batch, classes in sizes[: _sized(device, 4, 1)]:
        student = torch.randn(batch, classes, device=device, requires_grad=True)
        teacher = torch.randn(batch, classes, device=device)
        calls = {"KL": _kl, "LDRLD": LDRLD()}
        wanted, correct = _value(LDRLD(), [student.detach(), teacher], ())
        for name, call in (_candidates(device) if device.type == "cuda" else {}).items():
            try:
                value, gradient = _value(call, [student.detach(), teacher], ())
                torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(gradient, correct, rtol=1e-4, atol=1e-7)
                calls[name] = call
            except Exception:
                traceback.print_exc()
                yield f"{name}, {batch}x{classes}", "FAILED, see above"
        times = {name: [] for name in calls}
        for _ in range(30):
            for name, call in calls.items():
                times[name].append(_seconds(lambda c=call, s=student, t=teacher: c(s, t).backward(), device))
        median = {name: statistics.median(values[5:]) for name, values in times.items()}
        for name in list(calls)[1:]:
            what = f"{name} / KL, forward + backward, {batch}x{classes}"
            yield what, f"{median[name] / median['KL']:.2f} ({1e6 * median[name]:.0f} us)"


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


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def loader_rate(device: torch.device) -> Rows:
    """Augmented batches from memory on the device."""
    data = load_data("glyphs100", per_class=_sized(device, None, 8))
    loader = Loader(
        data.train, batch_size=64, input_format=data.input_format, augment=data.augment, shuffle=True, device=device
    )
    list(loader.epoch(0))
    seconds = _seconds(lambda: [None for _ in loader.epoch(1)], device)
    yield "loader, 32x32, batch 64, images/s", f"{len(data.train) / seconds:,.0f}"


def distillation(device: torch.device) -> Rows:
    """The whole loop, the published pair, on Glyphs-100; twice, to see whether equal runs end equal."""
    data = load_data("glyphs100", per_class=_sized(device, None, 2))
    teacher, student = _networks(device)
    with tempfile.TemporaryDirectory() as runs:
        ends = []
        for name in ("one", "two"):
            taught, record = stillroom.distill(
                teacher=teacher, student=copy.deepcopy(student), data=data, method="ldrld",
                epochs=2, runs=runs, name=name, accelerator=device.type, progress=True,
            )  # fmt: skip
            ends.append([value.cpu() for value in taught.state_dict().values()])
        rows = record.epochs()
    yield "R32x4 -> R8x4, LDRLD, batch 64, training images/s", f"{rows[-1]['images_per_second']:,.0f}"
    same = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    yield "two equal runs end with equal weights", "no" if not same else "yes"


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


def every_method(device: torch.device) -> Rows:
    """200 steps of every method on Glyphs-100, R32x4 -> R8x4: speed and memory beside KD, loss, accuracy."""
    from benchmarks import methods

    data = methods.images(_sized(device, methods.PER_CLASS, 2))
    pair = _sized(device, ("resnet32x4", "resnet8x4"), ("resnet20", "resnet8"))
    shared = {"data": data, "batch_size": methods.BATCH, "lr": 0.05, "schedule": "cosine", "accelerator": device.type}
    names = [
        "kd",
        *(methods.SHORT.get(name, name) for name in methods.PRESETS if name != "kd"),
        *methods.COMPOSED,
        "kd",
    ]
    with tempfile.TemporaryDirectory() as runs:
        epochs = _sized(device, 8, 1)
        teacher, _ = stillroom.train(model=pair[0], epochs=epochs, runs=runs, name="teacher", **shared)
        for i, method in enumerate(names[: _sized(device, None, 2)]):
            _, record = stillroom.distill(teacher=teacher, student=pair[1], method=method, epochs=methods.EPOCHS,
                                          runs=runs, name=str(i), **shared)  # fmt: skip
            rows = record.epochs()
            speed = statistics.median(row["images_per_second"] for row in rows) / methods.BATCH
            peak = record.summary()["peak_memory_bytes"] / 2**20
            told = (
                f"{speed:.1f}, {peak:.0f}, {rows[1]['loss']:.3g} -> {rows[-1]['loss']:.3g}, {rows[-1]['val_top1']:.1f}"
            )
            yield f"{method}: steps/s, peak MB, loss of epochs 2 -> 4, top-1 %", told


def strong_views(device: torch.device) -> Rows:
    """The second view for MLKD: the same images on every device, and what it costs."""
    data = load_data("glyphs100", per_class=_sized(device, 32, 2))
    shared = {"batch_size": 64, "input_format": data.input_format, "augment": data.augment, "shuffle": True}
    here = Loader(data.train, strong=True, device=device, **shared)
    on_cpu = next(Loader(data.train, strong=True, **shared).epoch(1)).strong
    worst = float((next(here.epoch(1)).strong.cpu() - on_cpu).abs().max())
    yield "strong view, largest difference from the CPU's", f"{worst:.1e}"
    plain = Loader(data.train, device=device, **shared)
    for name, loader in (("without", plain), ("with", here)):
        seconds = _seconds(lambda loader=loader: [None for _ in loader.epoch(2)], device)
        yield f"loader {name} strong views, ms a batch of 64", f"{1e3 * seconds / len(loader):.2f}"


def training_step(device: torch.device) -> Rows:
    """CIFAR-size runs, R32x4 -> R8x4 with LDRLD at batch 64, the teacher in every step, beside a public loop."""
    from benchmarks.baselines.loader import make_loader
    from benchmarks.baselines.loop import make_optimizer, train_epoch
    from benchmarks.step import noise_set

    teacher, student = _networks(device)
    few, workers = noise_set(_sized(device, 100, 3)), _sized(device, 8, 1)
    whole = noise_set(_sized(device, 781, 3))  # 49,984 images
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


def teacher_bank(device: torch.device) -> Rows:
    """An epoch on labels only, with the teacher, and with its answers from a bank."""
    from benchmarks.bank import epoch
    from benchmarks.step import noise_set

    teacher, student = _networks(device)
    data = noise_set(_sized(device, 300, 3))
    place = {"accelerator": device.type, "precision": "auto"}
    with tempfile.TemporaryDirectory() as folder:
        bank = {"teacher": teacher, "method": "0.1*ce + 0.9*kd", "bank": str(Path(folder) / "bank")}
        epoch(folder, student, data, **place, **bank)()
        live = {key: value for key, value in bank.items() if key != "bank"}
        kinds = {"labels only": {}, "teacher computed": live, "from the bank": bank}
        contenders = {name: epoch(folder, student, data, **place, **chosen) for name, chosen in kinds.items()}
        times = {name: [] for name in contenders}
        for _ in range(_sized(device, 4, 2)):
            for name, run in contenders.items():
                times[name].append(run())
    base = statistics.median(times["labels only"][1:])
    for name, values in times.items():
        yield f"bank: {name}, time of labels only", f"{statistics.median(values[1:]) / base:.2f}"


def teacher_formats(device: torch.device) -> Rows:
    """A teacher at its own size: its logits on the device against those on the CPU, and its images a second."""
    from benchmarks.step import noise_set
    from stillroom.input_format import InputFormat
    from stillroom.models import build_model
    from stillroom.runtime.device import make_machine
    from stillroom.teachers.torch_teacher import TorchTeacher

    data = noise_set(_sized(device, 20, 2))
    side = _sized(device, 224, 64)
    own = InputFormat((0.5,) * 3, (0.5,) * 3, (side, side))
    model = build_model("timm:tf_efficientnet_lite0", num_classes=1000)
    given = {"batch_size": _sized(device, 256, 16), "input_format": data.input_format, "shuffle": False}
    batch = next(Loader(data.train, **given).epoch(0))
    there = next(Loader(data.train, device=device, **given).epoch(0))
    described = {"input_format": own, "shares_input": False, "class_count": 1000}
    wanted = TorchTeacher(copy.deepcopy(model), **described).predict(batch).logits
    for precision in ("32", "bf16"):
        teacher = TorchTeacher(copy.deepcopy(model), **described)
        teacher.place(make_machine(device.type, precision), there.pixels[:2], layout=torch.channels_last)
        far = (teacher.predict(there).logits.cpu() - wanted).abs().max() / wanted.abs().max()
        seconds = _seconds(lambda teacher=teacher: teacher.predict(there), device)
        yield (
            f"teacher at {side} px, {precision}: relative difference, images/s",
            (f"{far:.1e}, {len(batch.labels) / seconds:.0f}"),
        )


def imagenet_loader(device: torch.device) -> Rows:
    """JPEGs of 500x375 pixels at 224: the loader alone, then ResNet34 -> ResNet18 in bf16.

    Anchors: 2,470 images/s for training ResNet50 on one A100 (NVIDIA DeepLearningExamples), 10,000 images/s for
    training ResNet18 with FFCV. Batches come through pinned memory; flips and normalisation run on the device.
    """
    from torchvision.models import resnet18, resnet34

    from stillroom.data.augment import Augment
    from stillroom.data.decoding_workers import worker_count
    from stillroom.data.photo_generator import write_photos

    classes, workers = 8, worker_count(_sized(device, os.cpu_count(), 1))
    with tempfile.TemporaryDirectory() as folder:
        write_photos(folder, classes, _sized(device, 512, 2), 1)
        data = load_data(folder, image_size=_sized(device, 224, 32), source="files")
        loader = Loader(
            data.train, batch_size=_sized(device, 256, 4), input_format=data.input_format, device=device, shuffle=True,
            augment=Augment(pad=0, min_scale=0.08), channels_last=True, drop_last=True, workers=workers,
        )  # fmt: skip
        images = len(loader) * loader.batch_size
        alone = _seconds(lambda: [None for _ in loader.epoch(1)], device)
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
        busy = _seconds(lambda: [step(first.images, first.labels) for _ in range(steps)], device)
        whole = _seconds(lambda: [step(batch.images, batch.labels) for batch in loader.epoch(3)], device)
        yield "ResNet34 -> ResNet18, bf16, one batch again and again, images/s", f"{images / busy:,.0f}"
        yield "the same from JPEGs, images/s", f"{images / whole:,.0f}"
        yield "the same, fraction of time waiting for data", f"{max(0.0, 1 - busy / whole):.2f}"


def recipe_parts(device: torch.device) -> Rows:
    """The step of a run with each recipe part against that of a plain run."""
    from benchmarks.recipe_cost import PARTS, measured

    teacher, student = _sized(device, ("resnet32x4", "resnet8x4"), ("resnet20", "resnet8"))
    found = measured({
        "teacher": teacher, "student": student, "method": "dkd", "batch_size": 64, "accelerator": device.type,
        "rounds": _sized(device, 5, 1),
    })  # fmt: skip
    for part in PARTS:
        yield f"step with {part}, times plain", found.ratio(part, "plain").text()


def detectors(device: torch.device) -> Rows:
    """A detector's boxes on the device against those on the CPU, its step, and two equal runs on drawn scenes."""
    from benchmarks.detection_step import PLAIN, steps

    calls = steps(_sized(device, 16, 2), device)
    times = {name: [] for name in calls}
    for _ in range(_sized(device, 25, 2)):
        for name, step in calls.items():
            times[name].append(_seconds(step, device))
    median = {name: statistics.median(values[len(values) // 5 :]) for name, values in times.items()}
    for name in calls:
        told = f"{1e3 * median[name]:.1f}, {median[name] / median[PLAIN]:.2f}"
        yield f"detector, {name}: ms a step of 16 images of 128 px, times the plain loop", told
    data = f"scenes:{_sized(device, 400, 12)}"
    for precision in ("32", "bf16"):
        with tempfile.TemporaryDirectory() as runs:
            shared = {"data": data, "batch_size": 16, "epochs": _sized(device, 3, 1), "optimizer": "adamw", "lr": 2e-3,
                      "precision": precision, "runs": runs, "accelerator": device.type}  # fmt: skip
            stillroom.train(model="stillroom.models.demo_detectors:large_detector", name="teacher", **shared)
            trained, record = stillroom.distill(
                teacher=f"{runs}/teacher", student="stillroom.models.demo_detectors:small_detector", name="student",
                method="0.1*ldrld(temperature=1) + 0.1*reviewkd(mid_channels=48, warmup=0)", **shared,
            )  # fmt: skip
            last = record.epochs()[-1]
            yield (
                f"detector, LDRLD + ReviewKD, {precision}: images/s, AP",
                (f"{last['images_per_second']:,.0f}, {record.summary()['last']['val_ap']:.2f}"),
            )
            on_cpu = stillroom.evaluate(model=str(record.path), data=data, accelerator="cpu")
            yield f"detector, {precision}: AP on the CPU", f"{on_cpu.ap:.2f}"
        del trained


def gpu_tests(_: torch.device) -> Rows:
    """The tests that need a GPU, which are skipped elsewhere."""
    files = ["tests/data/test_loader.py", "tests/data/test_strong_augment.py", "tests/runtime/test_peak_memory.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *files]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:])
    yield "tests of data path and memory", (done.stdout.strip().splitlines() or [done.stderr[-200:]])[-1]


def comparison(device: torch.device) -> Rows:
    """The comparison on all of Tiny-ImageNet, as far as nine minutes reach; the next call goes on with it.

    Not among the parts of a plain call. The data have to be in carried/tiny-imagenet-200-32px.
    """
    root = Path(__file__).parents[1]
    config = root / "benchmarks" / "comparisons" / "tiny-imagenet-200.yaml"
    command = [sys.executable, "-m", "stillroom.cli", "compare", "--config", str(config), "--accelerator", device.type]
    name = _sized(device, "tiny-imagenet-200", "trial")
    small = {"first_classes": 5, "per_class": 8, "epochs": 2, "teacher_epochs": 2, "seeds": 1, "teachers": "resnet8",
             "students": "resnet8", "methods": "ce,ldrld(depth=2)", "reference": "ce"}  # fmt: skip
    settings = {"name": name, **_sized(device, {}, small)}
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    process = subprocess.Popen(command, cwd=root)
    try:
        status = process.wait(timeout=540)
    except subprocess.TimeoutExpired:
        process.terminate()  # it saves everything
        process.wait()
        status = 0
    if status:
        yield "comparison", f"FAILED with status {status}, see above"
    accuracies: dict[str, list[float]] = {}
    for path in sorted(
        (root / "runs" / ("trial" if device.type != "cuda" else "tiny-imagenet-200")).glob("*/summary.json")
    ):
        run = RunFolder(path.parent)
        accuracies.setdefault(run.config().get("method", "teacher"), []).append(run.summary()["last"]["val_top1"])
    for method, values in accuracies.items():
        yield f"Tiny-ImageNet, {method}: top-1 by seed", ", ".join(f"{value:.2f}" for value in values)


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
