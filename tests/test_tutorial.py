"""The tutorial, run as it is written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [code for said, code in fenced if said == language]


def write_photos(folder: Path) -> None:
    """Four classes of small pictures, each of a colour of its own."""
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("val", 4)):
        for label, colour in enumerate(((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40))):
            place = folder / part / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                noise = torch.randint(-30, 30, (16, 16, 3), generator=generator)
                pixels = (torch.tensor(colour) + noise).clamp(0, 255).to(torch.uint8).numpy()
                Image.fromarray(pixels).save(place / f"{i}.png")


def test_the_tutorial_works_as_it_is_written(tmp_path):
    write_photos(tmp_path / "photos")
    for code in blocks("python"):
        name = code.splitlines()[0].removeprefix("# ")
        (tmp_path / name).write_text(code)
    assert len(blocks("python")[0].splitlines()) <= 30
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, last = eval(done.stdout.splitlines()[-1])
    assert 0 < last < first
    command = shlex.split(blocks("")[0].replace("\\\n", " "))
    assert command[0] == "stillroom"
    command = [sys.executable, "-m", "stillroom.cli", *command[1:], "--epochs", "1", "--batch_size", "16"]
    done = subprocess.run([*command, "--name", "again"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "pointing" in (tmp_path / "runs" / "again" / "metrics.jsonl").read_text()
