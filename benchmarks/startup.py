"""Wall time of the command line: --help, and a training run up to its first finished step.

Each row starts a process of its own. "first step" ends when the run reports its first step to what shows its progress;
"first numbers on a terminal" ends when the first losses are seen on a terminal, which is redrawn a few times a second.
`import torch` is the floor of anything that computes. The embedded images are drawn once per machine and kept, as are
compiled sources: the warm-up round does both, so they are only read here. PYTHONDONTWRITEBYTECODE, which makes every
process compile PyTorch's sources anew, is not handed on.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.harness import compare, make_parser, print_header, print_table

# Runs the command line with a reporter that leaves the process at the first step it is told of.
UP_TO_FIRST_STEP = """
import os, sys
from stillroom.cli import main
from stillroom.runtime import reporters

class Leave(reporters.Silent):
    def step(self, *_):
        os._exit(0)

reporters.make_reporter = lambda *_: Leave()
sys.exit(main(sys.argv[1:]) or 1)
"""
FLOOR = "python -c 'import torch'"
LOSS_SHOWN = re.compile(rb"ce \d")


def main(arguments: list[str]) -> None:
    parser = make_parser("startup", __doc__, rounds=7, threads=None)
    parser.add_argument("--model", default="resnet8x4", help="default resnet8x4")
    parser.add_argument("--per_class", type=int, default=10, help="training images of each class, default 10")
    options = parser.parse_args(arguments)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print_header("Start-up time")
    command = Path(sys.executable).with_name("stillroom")
    print(f"{options.rounds} interleaved rounds; medians, quartiles in brackets.\n")
    with tempfile.TemporaryDirectory() as runs:
        train = ["train", "--model", options.model, "--data", "glyphs100", "--per_class", str(options.per_class)]
        train += ["--accelerator", "cpu", "--epochs", "1"]
        calls: dict[str, Callable[[], None]] = {
            FLOOR: partial(run, [sys.executable, "-c", "import torch"]),
            "stillroom --help": partial(run, [str(command), "--help"]),
            "stillroom train, first step": in_new_folder([sys.executable, "-c", UP_TO_FIRST_STEP, *train], runs, run),
            "stillroom train, first numbers on a terminal": in_new_folder([str(command), *train], runs, watch),
        }
        took = compare(calls, rounds=options.rounds)
    rows = [[f"`{name}`", f"{took.median(name):.2f}", took.ratio(name, FLOOR).text()] for name in calls]
    print_table(["command", "s", "times `import torch`"], rows)


def in_new_folder(words: list[str], runs: str, start: Callable[[list[str]], None]) -> Callable[[], None]:
    """A call that starts a command with a run folder that is not there yet."""
    return lambda: start([*words, "--runs", tempfile.mkdtemp(dir=runs)])


def run(words: list[str]) -> None:
    """Run a command to its end."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{words}: {done.stderr[-2000:]}")


def watch(words: list[str]) -> None:
    """Run a command on a terminal until it shows a loss, then end it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | {"COLUMNS": "200"})
    os.close(theirs)
    seen = b""
    while not LOSS_SHOWN.search(seen):
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other end is closed
            raise SystemExit(f"{words}: ended without showing a loss: {seen[-2000:]!r}") from None
    process.kill()
    process.wait()
    os.close(ours)
