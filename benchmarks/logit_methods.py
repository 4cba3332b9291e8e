"""Every logit method on the same teacher, student, data, seed and schedule; one Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/logit_methods.py --data FOLDER --classes 50 --teacher RUN --runs OUT

Runs that are finished are kept, so the table can be printed again, and ``--part 1/2`` beside ``--part 2/2`` shares the
work between two processes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import stillroom
from stillroom.data import DataSet, load_data
from stillroom.engine.runs import RunFolder
from stillroom.errors import Diverged

# The papers' weights for ResNet32x4 -> ResNet8x4 where they give them. Warm-ups of 20 in 240 epochs would be less than
# one of ten: warmup=1 is none.
METHODS = {
    "labels only": "ce",
    "KD": "0.1*ce + 0.9*kd(temperature=4)",
    "DKD": "ce + dkd(beta=8, warmup=1)",
    "NKD": "ce + nkd",
    "TTM": "ce + 45*ttm",
    "WTTM": "ce + 4*wttm",
    "WSLD": "ce + 2.5*wsld",
    "DIST": "ce + dist",
    "RLD": "ce + rld(warmup=1)",
    "CTKD": "0.1*ce + 0.9*ctkd(loops=1)",
    "MLKD": "0.1*ce + 0.9*mlkd",
    "LDRLD": "ce + ldrld",
    "LSKD(KD)": "0.1*ce + 9*standardized(kd(temperature=2))",
    "LSKD(DKD)": "0.1*ce + 9*standardized(dkd(temperature=2, warmup=1))",
    "LSKD(LDRLD)": "ce + standardized(ldrld(temperature=2))",
    "LSKD(MLKD)": "0.1*ce + 9*mlkd(temperature=2, standardized=true)",
    "SDD(KD)": "0.1*ce + 0.9*sdd(kd(temperature=4))",
    "SDD(DKD)": "ce + sdd(dkd(beta=8, warmup=1))",
    "SDD(NKD)": "ce + sdd(nkd)",
    "SDD(LDRLD)": "ce + sdd(ldrld)",
}


def main() -> None:
    options = parse()
    part, parts = (int(number) for number in options.part.split("/"))
    data = load_data(options.data, first_classes=options.classes)
    for name, method in list(METHODS.items())[part - 1 :: parts]:
        print(f"{name}: {run(name, method, data, options).summary()['last']['val_top1']:.2f}", flush=True)
    print(table(options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--classes", type=int, default=None)
    parser.add_argument("--teacher", required=True, help="folder of a finished run")
    parser.add_argument("--student", default="stillroom.models.compact:small")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", required=True)
    parser.add_argument("--part", default="1/1")
    return parser.parse_args()


def run(name: str, method: str, data: DataSet, options: argparse.Namespace) -> RunFolder:
    shared = {
        "data": data, "epochs": options.epochs, "batch_size": options.batch_size, "lr": options.lr,
        "schedule": "cosine", "seed": options.seed, "runs": options.runs, "name": folder(name),
        "checkpoint_every": options.epochs,
    }  # fmt: skip
    if method == "ce":
        return stillroom.train(model=options.student, **shared).record
    try:
        return stillroom.distill(teacher=options.teacher, student=options.student, method=method, **shared).record
    except Diverged as error:
        raise SystemExit(f"{name}: {error}") from error


def folder(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-")


def table(options: argparse.Namespace) -> str:
    rows = []
    for name, method in METHODS.items():
        record = RunFolder(Path(options.runs) / folder(name))
        if record.finished:
            summary, epochs = record.summary(), record.epochs()
            speed = torch.tensor([row["images_per_second"] for row in epochs]).median()
            same = summary["last"]["agreement"]
            rows.append(
                f"| {name} | `{method}` | {summary['last']['val_top1']:.2f} | {summary['best']['val_top1']:.2f} | "
                f"{'–' if same is None else f'{same:.1f}'} | {speed:,.0f} |"
            )
    head = "| method | text | last % | best % | agreement % | images/s, median |\n|---|---|---|---|---|---|"
    return "\n".join([head, *rows])


if __name__ == "__main__":
    main()
