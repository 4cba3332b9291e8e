"""When the loop waits for its device, to see bad losses and requests to stop: about once a second."""

from __future__ import annotations

import time

MOST_STEPS = 50
SECONDS = 1.0


class Looks:
    """The steps after which the loop looks at what the device has computed.

    Waiting for a GPU after every step would leave it idle between them. All processes of a run have to look at the same
    steps, for what they see decides whether they go on: how long a step takes is the first one's measurement, which
    travels with the gradients.

    Args:
        every_step: look after every step, as on a CPU, where nothing has to be waited for.

    Attributes:
        interval: steps from one look to the next, in [1, 50].
        pace: seconds that a step took here of late; 0 while unknown.
    """

    def __init__(self, *, every_step: bool) -> None:
        self.every_step = every_step
        self.interval, self.pace = 1, 0.0
        self._left, self._steps = 1, 0
        self._latest: float | None = None

    def due(self) -> bool:
        """Count a step, and say whether it is time to look."""
        self._left -= 1
        self._steps += 1
        return self._left <= 0

    def looked(self, agreed_pace: float) -> None:
        """Plan the next look.

        Args:
            agreed_pace: seconds a step, the same number in every process; 0 for unknown.
        """
        now = time.monotonic()
        if self._latest is not None:
            self.pace = (now - self._latest) / self._steps
        self._latest, self._steps = now, 0
        known = agreed_pace > 0 and not self.every_step
        self.interval = min(max(int(SECONDS / agreed_pace), 1), MOST_STEPS) if known else 1
        self._left = self.interval

    def rest(self) -> None:
        """Do not count the time up to the next look, as that between two epochs."""
        self._latest = None
