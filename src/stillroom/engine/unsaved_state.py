"""Unsaved state: a warning for values that a loss changes in training and that no checkpoint holds."""

from __future__ import annotations

from stillroom.fingerprint import is_users_own, parts_of
from stillroom.methods import Method


class UnsavedState:
    """Attributes of the user's own losses, recorded before training and compared afterwards.

    Args:
        method: holds the losses with their connectors.
    """

    def __init__(self, method: Method) -> None:
        self.losses = {term.name: term.loss for term in method.terms if is_users_own(term.loss)}
        self.before = self._parts()

    def warnings(self) -> list[str]:
        """A line for each loss that changed values which are not in its state dict."""
        found = []
        for name, now in self._parts().items():
            before = self.before[name]
            changed = [part for part in {**before, **now} if before.get(part) != now.get(part)]
            if changed:
                what = ", ".join(part.removeprefix("attribute ") for part in changed)
                found.append(
                    f"warning: loss {type(self.losses[name]).__name__} changes {what} in training, which no checkpoint "
                    "has: a resumed run starts from the original value. Keep such a value in a buffer "
                    "(self.register_buffer)"
                )
        return found

    def _parts(self) -> dict[str, dict[str, str]]:
        """The digests of each loss's attributes and unsaved buffers."""
        return {
            name: {
                part: digest
                for part, digest in parts_of(loss, name).parts.items()
                if part.startswith("attribute ") or part == "unsaved buffers"
            }
            for name, loss in self.losses.items()
        }
