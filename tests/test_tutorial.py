"""The tutorial, run as it is written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [code for said, code in fenced if said == language]


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


# The page names no precision: on one reader's processor it is bf16, on another's float32.
USE = "from stillroom.engine import device; device.has_native_bf16 = lambda kind: {native}; import use"
COMMAND = "from stillroom.engine import device; device.has_native_bf16 = lambda kind: {native}; " + (
    "import sys; from stillroom.cli import main; sys.exit(main(sys.argv[1:]))"
)


def run(code: str, folder: Path, *arguments: str, native: bool) -> str:
    command = [sys.executable, "-c", code.format(native=native), *arguments]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=one_thread)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """What a reader has after copying the page's files next to some photos."""
    write_photos(tmp_path / "photos")
    for code in blocks("python"):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    return tmp_path


def test_the_tutorial_works_as_it_is_written(folder):
    assert len(blocks("python")[0].splitlines()) <= 30
    first, last = eval(run(USE, folder, native=True).splitlines()[-1])
    assert 0 < last < first
    command = shlex.split(blocks("")[0].replace("\\\n", " "))
    assert command[0] == "stillroom"
    more = ["--epochs", "1", "--batch_size", "16", "--name", "again"]
    run(COMMAND, folder, *command[1:], *more, native=True)
    assert "pointing" in (folder / "runs" / "again" / "metrics.jsonl").read_text()


def test_the_tutorial_works_on_a_processor_without_bf16(folder):
    first, last = eval(run(USE, folder, native=False).splitlines()[-1])
    assert 0 < last < first
