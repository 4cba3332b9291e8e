"""Messages between the driver of a run and its processes, which a launcher has started."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass
class News:
    """What the processes have reported since the driver looked last.

    Attributes:
        lines: to print.
        end: the type of the error that ends the run, and its message.
        training: whether process 0 has begun to train, so that there may be something to save.
    """

    lines: list[str] = field(default_factory=list)
    end: tuple[str, str] | None = None
    training: bool = False


class Mailbox:
    """The messages between the driver and the processes of a run; an actor on the driver's machine."""

    def __init__(self) -> None:
        self._news = News()
        self._starts = 0
        self._signal_number = 0
        self._stopped = asyncio.Event()

    async def start(self) -> int:
        """Process 0 is there; return how many times it has started."""
        self._starts += 1
        self._news.training = False
        return self._starts

    async def say(self, line: str) -> None:
        """Keep a line for the driver."""
        self._news.lines.append(line)

    async def begin_training(self) -> None:
        """The loop has begun: from now on it answers a request to stop."""
        self._news.training = True

    async def end(self, kind: str, message: str) -> None:
        """Keep the first error that ends the run."""
        self._news.end = self._news.end or (kind, message)

    async def requested(self) -> int:
        """Wait for a request to stop, and return its signal."""
        await self._stopped.wait()
        return self._signal_number

    async def exchange(self, signal_number: int) -> News:
        """Take the driver's request to stop, 0 for none, and give it the news."""
        if signal_number and not self._signal_number:
            self._signal_number = signal_number
            self._stopped.set()
        news, self._news = self._news, News(end=self._news.end, training=self._news.training)
        return news
