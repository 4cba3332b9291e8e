"""Polling: how often the loop waits for its device to check losses and stop requests, about once a second."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stillroom.runtime.distributed import Group
from stillroom.runtime.signals import StopRequest

MAX_STEPS = 50
SECONDS = 1.0


class Polling:
    """Chooses the steps after which the loop looks at what the device has computed.

    Waiting for a GPU after every step would leave it idle between them. All processes of a run have to look after the
    same steps, because what they see decides whether they go on. So the time of a step is the first process's
    measurement. It is sent with the gradients, and so are requests to stop.

    Args:
        group: the processes of the run.
        every_step: look after every step, as on a CPU, where nothing has to be waited for.

    Attributes:
        interval: steps from one look to the next, in [1, 50].
        pace: seconds that a step took here of late; 0 while unknown.
    """

    def __init__(self, group: Group, *, every_step: bool) -> None:
        self.group, self.every_step = group, every_step
        self.interval, self.pace = 1, 0.0
        self._left, self._steps = 1, 0
        self._latest: float | None = None
        self._sent = torch.zeros(2)  # means over all processes: whether to stop, and seconds a step
        self._agreed_to_stop = False

    def average(self, parameters: Iterable[nn.Parameter], losses: Tensor, stop: StopRequest) -> Tensor:
        """Average gradients and losses (terms,) over all processes; what they have to agree on is sent along."""
        if not self.group.many:
            return losses
        pace = self.pace if self.group.machine.first else 0.0
        sent = losses.new_tensor([float(stop.signal_number > 0), pace], dtype=torch.float32)
        averaged = self.group.average(parameters, torch.cat([losses.float(), sent]))
        self._sent = averaged[-2:]
        return averaged[:-2]

    def due(self) -> bool:
        """Count a step; return whether to look after it."""
        self._agreed_to_stop = False
        self._left -= 1
        self._steps += 1
        return self._left <= 0

    def look(self) -> None:
        """Read what was sent, which waits for the device, and plan the next look."""
        if not self.group.many:
            self.plan(self.pace)
            return
        wish, pace = self._sent.tolist()
        self._agreed_to_stop = wish > 0
        self.plan(pace * self.group.machine.world_size)  # only the first process sent one

    def plan(self, agreed_pace: float) -> None:
        """Plan the next look.

        Args:
            agreed_pace: seconds a step, the same number in every process; 0 for unknown.
        """
        now = time.monotonic()
        if self._latest is not None:
            self.pace = (now - self._latest) / self._steps
        self._latest, self._steps = now, 0
        known = agreed_pace > 0 and not self.every_step
        self.interval = min(max(int(SECONDS / agreed_pace), 1), MAX_STEPS) if known else 1
        self._left = self.interval

    def must_stop(self, stop: StopRequest) -> bool:
        """Whether to stop after this step: on request, where several processes agreed on it in their latest look."""
        return self._agreed_to_stop if self.group.many else stop.signal_number > 0

    def pause(self) -> None:
        """Leave out the time up to the next look, as that between two epochs."""
        self._latest = None
