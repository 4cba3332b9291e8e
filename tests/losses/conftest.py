"""What the tests of the losses may ask for."""

from __future__ import annotations

import pytest

from stillroom.losses import finite


@pytest.fixture
def unseen_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses do not look at their values, as on an accelerator: what is not finite has to come out."""
    monkeypatch.setattr(finite, "can_look_at", lambda values: False)
