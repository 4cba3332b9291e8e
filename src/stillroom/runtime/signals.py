"""Ctrl-C, SIGTERM and SIGHUP ask a run to save and stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

# A scheduler tells every process of a job, and a launcher among them tells its own processes once more.
REPEAT_SECONDS = 5.0

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass
class StopRequest:
    """Whether somebody asked to stop, and with which signal (0: nobody did)."""

    signal_number: int = 0
    _since: float = 0.0

    def repeats(self) -> bool:
        """Whether a signal that comes now only repeats the request."""
        return self.signal_number > 0 and time.monotonic() - self._since < REPEAT_SECONDS

    def take(self, number: int) -> None:
        """Remember who asked, and when."""
        self.signal_number, self._since = number, time.monotonic()


_listening: list[StopRequest] = []


@contextmanager
def listen() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request.

    What comes within five seconds of it is taken for the same request; a later signal acts as usual. Who listens inside
    somebody who listens already shares that request. A SIGHUP that is ignored, as under nohup, stays ignored.

    Outside the main thread Python gives no signals: there the request simply never comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    if _listening:
        yield _listening[-1]
        return
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: was for number, was in before.items() if was is not signal.SIG_IGN or number.name != "SIGHUP"}

    def hear(number: int, _: FrameType | None) -> None:
        if request.repeats():
            return
        if request.signal_number or not _listening:
            give_back(signal.Signals(number))
            signal.raise_signal(number)
        else:
            request.take(number)

    def give_back(number: signal.Signals) -> None:
        handler = before[number]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    for number in before:
        signal.signal(number, hear)
    _listening.append(request)
    try:
        yield request
    finally:
        _listening.pop()
        for number in before:
            # After a request, its repetitions still have to be told from a new one: whoever asked is not killed before
            # it could say what it did.
            if not request.repeats() and signal.getsignal(number) is hear:
                give_back(number)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of SIGINT, SIGTERM and SIGHUP back where a library puts its own in place, in Python or below."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if ours and handler is not None:
                signal.signal(number, handler)
