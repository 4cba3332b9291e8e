"""Every method for 200 steps on Glyphs-100, on a pair of one family and on a pair of two; a table beside plain KD.

    OMP_NUM_THREADS=1 python benchmarks/methods.py --runs OUT --pair same
    OMP_NUM_THREADS=1 python benchmarks/methods.py --runs OUT --pair mixed

FSP compares networks of the same widths, so its student is the teacher's own architecture.

Each method runs in a process of its own, so that its peak memory is its own. KD runs again after every few methods, and
a method's speed is divided by that of the KD runs before and after it, because machines are noisy.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

import stillroom
from stillroom.data import DataSet, load_data
from stillroom.methods import PRESETS

TEACHER = "stillroom.models.demo_nets:large"
STUDENTS = {"same": "stillroom.models.demo_nets:medium", "mixed": "timm:test_efficientnet"}
# Who needs something else: the same widths, or a final map of more than one pixel.
OTHERS = {"same": {"fsp": TEACHER}, "mixed": dict.fromkeys(("sdd", "simkd", "catkd"), "MobileNetV2")}
EPOCHS, BATCH, PER_CLASS, VAL_PER_CLASS = 4, 128, 64, 10
SHORT = {"dkd": "dkd(warmup=1)", "rld": "rld(warmup=1)", "reviewkd": "reviewkd(warmup=1)", "ctkd": "ctkd(loops=1)",
         "ft": "ft(initial_epochs=1)", "ab": "ab(initial_epochs=1)", "ldrld": "ldrld(warmup=1)"}  # fmt: skip
COMPOSED = ("standardized(kd)", "sdd(kd)", "sdd(dkd(warmup=1))", "sdd(nkd)", "sdd(ldrld(warmup=1))",
            "kd + 1000*at", "0.8*crd + kd", "standardized(ldrld(warmup=1)) + 5*reviewkd(warmup=1)")  # fmt: skip
KD_EVERY = 12


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(options)))
        return
    teacher(options)
    methods = [SHORT.get(name, name) for name in PRESETS if name != "kd"] + list(COMPOSED)
    if options.pair == "mixed":
        methods.remove("fsp")  # compares flow matrices, which have the networks' widths
    students = {method: student_of(method, options.pair) for method in methods}
    rows = []
    for student in dict.fromkeys(students.values()):
        queue = ["kd"]
        for i, method in enumerate(method for method in methods if students[method] == student):
            queue += [method, "kd"] if (i + 1) % KD_EVERY == 0 else [method]
        for method in queue if queue[-1] == "kd" else [*queue, "kd"]:
            rows.append(apart(len(rows), method, student, options))
    print(table(rows))


def student_of(method: str, pair: str) -> str:
    return next((student for name, student in OTHERS[pair].items() if method.startswith(name)), STUDENTS[pair])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--pair", choices=STUDENTS, required=True)
    parser.add_argument("--teacher_epochs", type=int, default=5)
    parser.add_argument("--one", default="")
    parser.add_argument("--name", default="")
    parser.add_argument("--student", default="")
    parser.add_argument("--batch_size", type=int, default=BATCH)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of 50 steps; 2 are enough for peaks of memory")
    parser.add_argument("--here", action="store_true", help="all in one process: quicker, peaks less exact")
    return parser.parse_args()


def images(per_class: int) -> DataSet:
    data = load_data("glyphs100", per_class=per_class)
    kept = data.val.labels.new_zeros(len(data.val), dtype=bool)
    for label in range(len(data.val.classes)):
        kept[(data.val.labels == label).nonzero()[:VAL_PER_CLASS]] = True
    val = dataclasses.replace(
        data.val, images=data.val.images[kept], labels=data.val.labels[kept], ids=data.val.ids[kept]
    )
    return dataclasses.replace(data, val=val)


def teacher(options: argparse.Namespace) -> None:
    stillroom.train(model=TEACHER, data=images(200), epochs=options.teacher_epochs, batch_size=BATCH, lr=0.1,
                    schedule="cosine", runs=options.runs, name="teacher", progress=True)  # fmt: skip


def apart(place: int, method: str, student: str, options: argparse.Namespace) -> dict[str, object]:
    flags = {"runs": options.runs, "pair": options.pair, "one": method, "student": student,
             "name": f"{options.pair}-{place:02d}", "batch_size": str(options.batch_size),
             "epochs": str(options.epochs)}  # fmt: skip
    if options.here:
        row = measure(argparse.Namespace(**flags | {"batch_size": options.batch_size, "epochs": options.epochs}))
    else:
        command = [sys.executable, __file__, *(part for flag, value in flags.items() for part in (f"--{flag}", value))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{method}: {done.stderr[-2000:]}")
        row = json.loads(done.stdout.splitlines()[-1])
    print(row, flush=True)
    return row


def measure(options: argparse.Namespace) -> dict[str, object]:
    data = images(options.batch_size // 2)  # 50 steps an epoch
    ctypes.CDLL(None).malloc_trim(0)  # what loading freed is not the run's
    _, record = stillroom.distill(
        teacher=str(Path(options.runs) / "teacher"), student=options.student, data=data, method=options.one,
        epochs=options.epochs, batch_size=options.batch_size, lr=0.05, schedule="cosine", runs=options.runs,
        name=options.name,
    )  # fmt: skip
    epochs = record.epochs()
    steps = len(data.train) // options.batch_size
    # An initial stage is something else; a loss is compared with itself.
    main_stage = [row for row in epochs if row["terms"].get("ce", 1) > 0]
    warm = [row for row in main_stage if row["epoch"] > 1] or main_stage
    again = stillroom.evaluate(model=str(record.path), data=data)
    return {
        "method": options.one,
        "student": options.student,
        "steps_per_second": statistics.median(steps / row["seconds"] for row in epochs),
        "peak_mb": record.summary()["peak_memory_bytes"] / 2**20,
        "first": warm[0]["loss"],
        "last": epochs[-1]["loss"],
        "top1": record.summary()["last"]["val_top1"],
        "export": abs(again.top1 - record.summary()["last"]["val_top1"]) < 1e-6,
    }


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| method | student | loss, epoch 2 → 4 | top-1 % | steps/s | of KD's | peak MB over KD's | export |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for i, row in enumerate(rows):
        kd = [k for k, other in enumerate(rows) if other["method"] == "kd" and other["student"] == row["student"]]
        if row["method"] == "kd" and i != kd[0]:
            continue
        around = [max((k for k in kd if k <= i), default=kd[0]), min((k for k in kd if k >= i), default=kd[-1])]
        base = statistics.mean(rows[k]["steps_per_second"] for k in around)
        memory = row["peak_mb"] - statistics.median(rows[k]["peak_mb"] for k in kd)
        lines.append(
            f"| `{row['method']}` | {row['student'].rpartition(':')[2]} | {row['first']:.3g} → {row['last']:.3g} | "
            f"{row['top1']:.1f} | {row['steps_per_second']:.2f} | {row['steps_per_second'] / base:.2f} | "
            f"{memory:+.0f} | {'same accuracy' if row['export'] else 'DIFFERS'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
