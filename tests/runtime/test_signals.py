from __future__ import annotations

import os
import signal
import threading

import pytest

from stillroom.runtime import signals
from stillroom.runtime.signals import StopRequest, handlers_kept, stop_requests, stopped_by

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def heard():
    """What reaches this process's own handlers, in order."""
    numbers = []
    before = {n: signal.signal(n, lambda number, _: numbers.append(number)) for n in (signal.SIGTERM, signal.SIGHUP)}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_repeated_signal_is_the_same_request_and_a_later_one_acts_as_usual(number, heard, clock):
    with stop_requests() as request:
        signal.raise_signal(number)
        assert request.signal_number == number
        clock[0] += 4
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        assert heard == []
        clock[0] += 2
        signal.raise_signal(number)
        assert heard == [number]


def test_a_repetition_that_comes_when_the_run_has_ended_is_ignored_too(heard, clock):
    with stop_requests():
        signal.raise_signal(signal.SIGTERM)
    clock[0] += 2
    signal.raise_signal(signal.SIGTERM)
    assert heard == []
    clock[0] += 4
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM] * 2


def test_without_a_request_the_handlers_are_given_back(heard):
    with stop_requests() as request:
        pass
    signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    assert request.signal_number == 0


def test_under_nohup_a_closed_terminal_is_no_request(heard):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_requests() as request:
        signal.raise_signal(signal.SIGHUP)
        assert request.signal_number == 0


def test_who_listens_inside_somebody_who_does_hears_what_came_before(heard):
    with stop_requests() as outer:
        signal.raise_signal(signal.SIGTERM)
        with stop_requests() as inner:
            assert inner is outer
            assert inner.signal_number == signal.SIGTERM


def test_a_library_that_takes_signals_for_itself_does_not_keep_them(heard):
    with stop_requests() as request:
        with handlers_kept():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        assert request.signal_number == signal.SIGTERM


def test_a_run_in_a_thread_takes_the_request_that_it_was_given():
    given, seen = StopRequest(), []

    def run():
        with stopped_by(given), stop_requests() as request:
            given.take(signal.SIGTERM)
            seen.append(request.signal_number)
        with stop_requests() as request:
            seen.append(request.signal_number)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.SIGTERM, 0]
