import numpy as np
import pytest
import torch

from stillroom.data import channel_statistics, load_data
from stillroom.data.channel_statistics import measured_statistics
from stillroom.data.file_set import FileSet


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (700, 3, 9, 8), (300, 1, 2, 2)])
def test_equals_numpy(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(images)
    reference = images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(mean, reference.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, reference.std((0, 2, 3)), rtol=1e-12)


def test_constant_channel_can_be_divided_by():
    images = torch.full((4, 2, 3, 3), 255, dtype=torch.uint8)
    images[0, 1] = 0
    mean, std = channel_statistics(images)
    assert mean == (1.0, 0.75)
    assert std[0] == 1.0
    assert std[1] == pytest.approx(0.4330127)


def test_images_in_files_are_decoded_for_it_once(image_folder, monkeypatch):
    root = image_folder(count=5)
    memory, files = (load_data(root, source=kind) for kind in ("memory", "files"))
    assert (files.mean, files.std) == (memory.mean, memory.std)

    def decoded(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(FileSet, "pixels", decoded)
    assert measured_statistics(files.train) == (files.mean, files.std)


def test_a_damaged_record_is_measured_again(image_folder, cache):
    files = load_data(image_folder(count=5), source="files").train
    expected = measured_statistics(files)
    for record in (cache / "histograms").glob(f"{files.fingerprint}*"):
        record.write_bytes(record.read_bytes()[:40])
    assert measured_statistics(files) == expected
