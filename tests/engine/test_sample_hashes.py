from __future__ import annotations

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import NAME, samples_bytes, seen_by, write_samples
from stillroom.errors import InputError


def test_a_run_has_seen_its_training_images_and_those_of_earlier_runs(tmp_path, tiny_data):
    first, second = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "second")
    swapped = type(tiny_data)(
        "swapped", tiny_data.val, tiny_data.train, tiny_data.mean, tiny_data.std, tiny_data.augment
    )
    assert seen_by(first) is None
    for run, data, earlier in ((first, tiny_data, []), (second, swapped, [first])):
        run.path.mkdir()
        write_samples(run, data, earlier)
    train, val = (set(images.content().tolist()) for images in (tiny_data.train, tiny_data.val))
    assert set(seen_by(first).tolist()) == train
    assert set(seen_by(second).tolist()) == train | val
    assert (first.path / NAME).stat().st_size < samples_bytes(tiny_data) + 500


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x00" * 100])
def test_a_damaged_record_is_refused(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        seen_by(RunFolder(tmp_path))
