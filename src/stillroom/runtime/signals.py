"""Signal handling: Ctrl-C, SIGTERM and SIGHUP ask a run to save and stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType

# A scheduler signals every process of a job, and a launcher among them forwards the signal to its own processes.
REPEAT_SECONDS = 5.0

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass
class StopRequest:
    """A request to stop: the number of the signal, 0 for none."""

    signal_number: int = 0
    _since: float = 0.0

    def repeats(self) -> bool:
        """Whether a signal received now is a repetition of the request."""
        return self.signal_number > 0 and time.monotonic() - self._since < REPEAT_SECONDS

    def take(self, number: int) -> None:
        """Record the signal and the time."""
        self.signal_number, self._since = number, time.monotonic()


_open_requests: list[StopRequest] = []
_given_request: ContextVar[StopRequest | None] = ContextVar("given_request", default=None)


@contextmanager
def stopped_by(request: StopRequest) -> Iterator[None]:
    """Use a request that the caller fills in place of signals, for runs in a thread: only the main thread gets signals.

    Args:
        request: what :func:`stop_requests` yields inside the block.
    """
    token = _given_request.set(request)
    try:
        yield
    finally:
        _given_request.reset(token)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP inside the block into a request to stop.

    A signal within five seconds of it is the same request; a later signal acts as usual. Nested blocks share one
    request. A SIGHUP that is ignored, as under nohup, stays ignored.

    Python delivers signals to the main thread only. In another thread there is never a request, unless it was given
    by :func:`stopped_by`.
    """
    if (given := _given_request.get()) is not None:
        yield given
        return
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    if _open_requests:
        yield _open_requests[-1]
        return
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: was for number, was in before.items() if was is not signal.SIG_IGN or number.name != "SIGHUP"}

    def on_signal(number: int, _: FrameType | None) -> None:
        if request.repeats():
            return
        if request.signal_number or not _open_requests:
            give_back(signal.Signals(number))
            signal.raise_signal(number)
        else:
            request.take(number)

    def give_back(number: signal.Signals) -> None:
        handler = before[number]
        signal.signal(number, signal.SIG_DFL if handler is None else handler)

    for number in before:
        signal.signal(number, on_signal)
    _open_requests.append(request)
    try:
        yield request
    finally:
        _open_requests.pop()
        for number in before:
            # Repetitions of a request stay ignored after the block, so that the process can report before it ends.
            if not request.repeats() and signal.getsignal(number) is on_signal:
                give_back(number)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restore the handlers of SIGINT, SIGTERM and SIGHUP after a library call that may replace them."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if ours and handler is not None:
                signal.signal(number, handler)
