"""One teacher as a network, as its ONNX file, and behind a server that dies in mid-run: the same students.

    python -m benchmarks teacher_forms --data ../shared/data/tiny-imagenet-200-32px

The teacher is efficientnet-lite0 with its ImageNet weights, whose classes are mapped to those of the data. The server
is tests/inference_server.py in a process of its own. Everything computes in float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests, for the server

from tests.teachers.servers import Server

from stillroom.api import distill
from stillroom.engine.run_folder import RunFolder
from stillroom.export.onnx_graph import write_graph
from stillroom.models import build_model, published_classes

HALF = [0.5, 0.5, 0.5]
TEACHER = "efficientnet-lite0"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks teacher_forms", description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--per_class", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="side at which the teacher takes the images")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), options)


def _measure(folder: Path, options: argparse.Namespace) -> None:
    file = folder / "net.onnx"
    model = build_model(TEACHER, num_classes=None).eval()
    facts = {"classes": list(published_classes(TEACHER, model) or ()), "mean": HALF, "std": HALF}
    write_graph(model, torch.zeros(2, 3, options.size, options.size), file, facts)
    names = folder / "classes.txt"
    names.write_text("\n".join(facts["classes"]))
    settings: dict[str, Any] = {
        "student": "resnet20", "data": options.data, "method": "0.1*ce + 0.9*kd(temperature=4)", "precision": "32",
        "first_classes": options.classes, "per_class": options.per_class, "epochs": options.epochs,
        "runs": str(folder / "runs"), "teacher_image_size": options.size, "teacher_mean": HALF, "teacher_std": HALF,
        "teacher_classes": str(names), "accelerator": "cpu", "progress": True, "schedule": "milestones",
    }  # fmt: skip
    server = Server(file, folder / "images.txt")
    stop = threading.Event()
    deaths = threading.Thread(target=_die_and_come_back, args=(server, stop))
    try:
        records = {
            "network": distill(teacher=TEACHER, name="network", **settings).record,
            "ONNX file": distill(teacher=str(file), name="file", **settings).record,
        }
        deaths.start()
        served = {"teacher_identity": "efficientnet-lite0"}
        records["server"] = distill(teacher=server.url, name="server", **served, **settings).record
    finally:
        stop.set()
        server.kill()
        deaths.join()
    _print(records, server)


def _die_and_come_back(server: Server, stop: threading.Event) -> None:
    """Kill the server ten seconds after its first prediction, and start it again five seconds later."""
    while not server.images and not stop.wait(0.1):
        pass
    if stop.wait(10):
        return
    server.kill()
    print(f"the server was killed after {len(server.images):,} images", flush=True)
    if not stop.wait(5):
        server.start()


def _print(records: dict[str, RunFolder], server: Server) -> None:
    epochs = len(records["network"].epochs())
    columns = [f"loss, epoch {epoch}" for epoch in range(1, epochs + 1)]
    print(f"\n| teacher | its accuracy % | its loss | {' | '.join(columns)} | student % |")
    print("|---" * (4 + epochs) + "|")
    for name, record in records.items():
        losses = " | ".join(f"{row['loss']:.5f}" for row in record.epochs())
        summary = record.summary()
        teacher = summary["teacher"]
        student = f"{losses} | {summary['last']['val_top1']:.2f}"
        print(f"| {name} | {teacher['top1']:.2f} | {teacher['loss']:.6f} | {student} |")
    images = server.images
    print(f"\nthe server predicted {len(images):,} images, {len(set(images)):,} of them different")


if __name__ == "__main__":
    begin = time.perf_counter()
    main(sys.argv[1:])
    print(f"{time.perf_counter() - begin:.0f} s")
