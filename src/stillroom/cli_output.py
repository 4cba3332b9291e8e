"""Output of the command line: tables, status lines and errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stillroom.formatting import counted

if TYPE_CHECKING:
    from stillroom.tasks.average_precision import AveragePrecision
    from stillroom.tasks.classification_score import Evaluation


def print_rich(content: Any) -> None:
    """Print text or a table of rich on stdout."""
    from stillroom.runtime.reporters import make_console

    console = make_console(stderr=False)
    if not console.is_terminal:  # pipes and files get whole lines
        console.width = 200
    console.print(content, soft_wrap=isinstance(content, str))


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """Show a status line while work is going on; on terminals only."""
    from rich.text import Text

    from stillroom.runtime.reporters import make_console

    with make_console(stderr=True).status("") as line:
        yield lambda words: line.update(Text(words))


def print_error(message: object) -> None:
    """Print a message as one line on stderr."""
    text = " ".join(str(message).split()).encode(errors="backslashreplace").decode()  # a path may hold any bytes
    print(f"stillroom: {text}", file=sys.stderr)


def evaluation_line(result: Evaluation | AveragePrecision) -> str:
    """The result of an evaluation in one line."""
    images = counted(result.count, "image")
    if not hasattr(result, "numbers"):
        return f"top-1 {result.top1:.2f} %   top-5 {result.top5:.2f} %   loss {result.loss:.4f}   {images}"
    named = {name.replace("ap", "AP").replace("_", " "): value for name, value in result.numbers().items()}
    return "   ".join([*(f"{name} {value:.2f} %" for name, value in named.items()), images])
