"""Subjects: a restored network gives the stored predictions, an embedding, and sees changed pixels."""

from __future__ import annotations

import pytest
import torch

from tests.probe.conftest import subject_of


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_network_gives_the_stored_predictions(trained_runs, role):
    subject = subject_of(trained_runs, role=role)
    found = subject.logits(subject.data.val)
    assert torch.allclose(found, subject.predictions().logits, atol=2e-2, rtol=2e-3)  # stored in half precision
    assert not subject.model.training


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_the_embedding_is_what_the_last_layer_takes(trained_runs, role):
    subject = subject_of(trained_runs, role=role)
    embedding = subject.embedding(subject.data.val)
    *_, last = (module for module in subject.model.modules() if isinstance(module, torch.nn.Linear))
    assert torch.allclose(last(embedding), subject.logits(subject.data.val), atol=1e-5)


def test_a_change_gets_pixels_and_ids_before_they_are_normalised(student):
    seen = []

    def inverted(pixels, ids):
        assert pixels.dtype == torch.uint8
        seen.append(ids)
        return 255 - pixels

    plain = student.logits(student.data.val)
    changed = student.logits(student.data.val, inverted)
    assert torch.equal(torch.cat(seen), student.data.val.ids)
    assert not torch.allclose(plain, changed)
    assert torch.equal(plain, student.logits(student.data.val, lambda pixels, _: pixels))
    assert torch.equal(changed, student.logits(student.data.val, inverted))


def test_the_record_of_a_teacher_is_shared_by_its_students(trained_runs):
    records = {subject_of(trained_runs, name, "teacher").record for name in ("ce-s0", "kd-s0")}
    assert len(records) == 1
    assert records.pop().parent == trained_runs
    assert subject_of(trained_runs, "teacher", "teacher").record is None
    assert subject_of(trained_runs).record == trained_runs / "kd-s0" / "probes.json"
