"""The tutorials, run as they are written."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"


def blocks(page: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", (TUTORIALS / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    return [code for said, code in fenced if said == language]


def commands(page: str) -> list[list[str]]:
    """The arguments of every ``stillroom`` command on a page."""
    lines = "".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("stillroom ")]


def write_photos(folder: Path) -> None:
    """Four classes of small images, each of a colour of its own."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("val", 4)):
        for label, colour in enumerate(((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                noise = torch.randint(-30, 30, (16, 16, 3), generator=generator)
                pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(place / f"{i}.png")


# The pages name no precision: on one reader's processor it is bf16, on another's float32.
PRECISION = "from stillroom.runtime import device; device.has_native_bf16 = lambda kind: {native}; "
USE = PRECISION + "import use"
COMMANDS = PRECISION + (
    "import json, sys; from stillroom.cli import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
)


def run(code: str, folder: Path, *arguments: str, native: bool) -> str:
    command = [sys.executable, "-c", code.format(native=native), *arguments]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """What a reader of "your own loss" has after copying the page's files next to some photos."""
    write_photos(tmp_path / "photos")
    for code in blocks("own_loss.md", "python"):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    return tmp_path


def test_your_own_loss_works_as_it_is_written(folder):
    assert len(blocks("own_loss.md", "python")[0].splitlines()) <= 30
    first, last = eval(run(USE, folder, native=True).splitlines()[-1])
    assert 0 < last < first
    (command,) = commands("own_loss.md")
    shorter = [*command, "--epochs", "1", "--batch_size", "16", "--name", "again"]
    run(COMMANDS, folder, json.dumps([shorter]), native=True)
    assert "pointing" in (folder / "runs" / "again" / "metrics.jsonl").read_text()


def test_your_own_loss_works_on_a_processor_without_bf16(folder):
    first, last = eval(run(USE, folder, native=False).splitlines()[-1])
    assert 0 < last < first


def test_your_first_student_works_as_it_is_written(tmp_path):
    less = {"train": ["--per_class", "8", "--epochs", "1"], "distill": ["--per_class", "8", "--epochs", "1"]}
    less |= {"report": ["--views", "false"], "export": ["--no_latency"]}
    shorter = [[*command, *less.get(command[0], [])] for command in commands("first_student.md")]
    assert [command[0] for command in shorter] == ["train", "train", "distill", "evaluate", "report", "export"]
    assert "top-1" in run(COMMANDS, tmp_path, json.dumps(shorter), native=False)
    (code,) = blocks("first_student.md", "python")
    predicted = eval(run(PRECISION + code, tmp_path, native=False))
    assert len(predicted) == 5
    assert all(name.startswith("U+") for name in predicted)


def test_a_pretrained_model_teaches_photos_as_it_is_written(tmp_path):
    (code,) = blocks("pretrained_teacher.md", "python")
    run(code.replace("{", "{{").replace("}", "}}"), tmp_path, native=False)
    less = {"train": [], "distill": ["--epochs", "1"], "predict": [], "export": ["--no_onnx", "--no_latency"]}
    shorter = [[*command, *less[command[0]]] for command in commands("pretrained_teacher.md")]
    assert [command[0] for command in shorter] == ["train", "distill", "predict", "export", "distill"]
    printed = run(COMMANDS, tmp_path, json.dumps(shorter), native=False)
    assert re.search(r"photos/daisy/00.png .*│ (daisy|palace|military_uniform) ", printed)
    teacher = json.loads((tmp_path / "runs/no-training/summary.json").read_text())["teacher"]
    assert teacher["top1"] > 80  # chance is 33: its classes are mapped to those of the folders
    assert (tmp_path / "runs" / "student" / "export" / "model.safetensors").exists()
