"""Polling: about once a second the loop waits for its device and checks losses and stop requests."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from stillroom.runtime.distributed import Group
from stillroom.runtime.signals import StopRequest

MAX_STEPS = 50
SECONDS = 1.0


class Polling:
    """Chooses the steps after which the loop reads results from the device.

    Waiting for a GPU after every step would leave it idle between them. All processes of a run must poll after the
    same steps, because the results decide whether they continue. The time of a step is therefore the first process's
    measurement. It is sent with the losses, as are requests to stop and whether a checkpoint is due by the first
    process's clock.

    Args:
        group: the processes of the run.
        every_step: poll after every step, as on a CPU, which does not run asynchronously.

    Attributes:
        interval: steps from one poll to the next, in [1, 50].
        pace: seconds per step, as measured by this process since the previous poll; 0 if unknown.
        save_due: whether a checkpoint was due by the clock at the latest poll, alike in every process.
    """

    def __init__(self, group: Group, *, every_step: bool) -> None:
        self.group, self.every_step = group, every_step
        self.interval, self.pace = 1, 0.0
        self._left, self._steps = 1, 0
        self._latest: float | None = None
        self._sent = torch.zeros(3)  # means over all processes: stop requests, seconds per step, checkpoint due
        self._agreed_to_stop = self.save_due = False

    def average(self, losses: Tensor, stop: StopRequest, *, save_due: bool) -> Tensor:
        """Average losses (terms,) over all processes, and send what :meth:`look` reads.

        Args:
            losses: of this process.
            stop: the request to this process.
            save_due: whether a checkpoint is due by this process's clock; the first process's counts.
        """
        first = self.group.machine.first
        sent = [float(stop.signal_number > 0), self.pace if first else 0.0, float(save_due and first)]
        if not self.group.many:
            self._sent = torch.tensor(sent)
            return losses
        averaged = self.group.average(torch.cat([losses.float(), losses.new_tensor(sent, dtype=torch.float32)]))
        self._sent = averaged[-3:]
        return averaged[:-3]

    def due(self) -> bool:
        """Count a step; return whether to poll after it."""
        self._agreed_to_stop = False
        self._left -= 1
        self._steps += 1
        return self._left <= 0

    def look(self) -> None:
        """Wait for the device, read the values that were sent, and plan the next poll."""
        stop_requests, pace, save_due = self._sent.tolist()
        self._agreed_to_stop, self.save_due = stop_requests > 0, save_due > 0
        # Only the first process sends its pace. With one process the measurement since then counts.
        self.plan(pace * self.group.machine.world_size if self.group.many else self.pace)

    def plan(self, agreed_pace: float) -> None:
        """Plan the next poll.

        Args:
            agreed_pace: seconds per step, the same number in every process; 0 if unknown.
        """
        now = time.monotonic()
        if self._latest is not None:
            self.pace = (now - self._latest) / self._steps
        self._latest, self._steps = now, 0
        known = agreed_pace > 0 and not self.every_step
        self.interval = min(max(int(SECONDS / agreed_pace), 1), MAX_STEPS) if known else 1
        self._left = self.interval

    def must_stop(self, stop: StopRequest) -> bool:
        """Whether to stop after this step. Several processes stop only after a poll in which they agreed."""
        return self._agreed_to_stop if self.group.many else stop.signal_number > 0

    def pause(self) -> None:
        """Do not measure the time until the next poll, for example between two epochs."""
        self._latest = None
