from __future__ import annotations

import dataclasses

import pytest

from tests.prepare.test_run_identity import Opening


def test_a_job_holds_what_the_loop_needs_and_does_not_change(tmp_path, tiny_data):
    opening = Opening(tmp_path, tiny_data)
    labels_only, features = opening(name="a"), opening(name="b", method="at")
    assert labels_only.student_view is None
    assert features.student_view is not None
    assert features.teacher_view is not None
    assert features.run.path == tmp_path / "b"
    assert features.machine.device.type == "cpu"
    with pytest.raises(dataclasses.FrozenInstanceError):
        features.teacher = None
