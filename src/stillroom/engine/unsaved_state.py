"""Warn of values that a loss changes in training but that no checkpoint holds."""

from __future__ import annotations

from stillroom.fingerprint import is_users_own, parts_of
from stillroom.methods import Method


class UnsavedState:
    """Attributes of losses of one's own, as they were before training.

    Args:
        method: its losses, with their connectors.
    """

    def __init__(self, method: Method) -> None:
        self.losses = {term.name: term.loss for term in method.terms if is_users_own(term.loss)}
        self.before = self._parts()

    def warnings(self) -> list[str]:
        """A line for each loss that has changed something which its state dict does not have."""
        found = []
        for name, now in self._parts().items():
            before = self.before[name]
            changed = [part for part in {**before, **now} if before.get(part) != now.get(part)]
            if changed:
                what = ", ".join(part.removeprefix("attribute ") for part in changed)
                found.append(
                    f"warning: loss {type(self.losses[name]).__name__} changes {what} in training, which no checkpoint "
                    "has: after a stop, the run goes on as if it had not been changed. Keep what counts in a buffer "
                    "(self.register_buffer)"
                )
        return found

    def _parts(self) -> dict[str, dict[str, str]]:
        """Of each loss its attributes and unsaved buffers."""
        return {
            name: {
                part: digest
                for part, digest in parts_of(loss, name).parts.items()
                if part.startswith("attribute ") or part == "unsaved buffers"
            }
            for name, loss in self.losses.items()
        }
