"""Stored detections: kept to the bit, refused where damaged, gathered in the set's order."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file

from stillroom.reading import UnreadableError
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.tasks.average_precision import average_precision
from stillroom.tasks.detections_file import (
    FORMAT,
    StoredDetections,
    content_limit,
    detections_content,
    gather_detections,
    read_detections,
)
from tests.tasks.boxes_of import draw_images

IMAGES, CLASSES = 9, 4


@pytest.fixture
def stored():
    objects, found = draw_images(IMAGES, CLASSES, torch.Generator().manual_seed(3))
    return StoredDetections(tuple(found), tuple(objects), torch.arange(IMAGES) * 7)


def same(ours, theirs):
    return all(torch.equal(ours.tensors()[name], value) for name, value in theirs.tensors().items())


def test_a_file_gives_back_every_bit_and_the_same_average_precision(stored, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(detections_content(stored))
    again = read_detections(tmp_path / "a.safetensors", IMAGES, CLASSES)
    assert same(again, stored)
    assert [image.size for image in again.objects] == [image.size for image in stored.objects]
    mine, theirs = (average_precision(each.objects, each.found, CLASSES) for each in (again, stored))
    assert mine == theirs


def test_a_file_is_never_larger_than_its_limit():
    objects, found = draw_images(IMAGES, CLASSES, torch.Generator().manual_seed(3), detections=12)
    size = len(detections_content(StoredDetections(tuple(found), tuple(objects), torch.arange(IMAGES))))
    assert max(map(len, found)) <= 12
    assert size <= content_limit(objects, 12)
    exact = size + 28 * (12 * IMAGES - sum(map(len, found)))  # with 12 detections in every image
    assert content_limit(objects, 12) < exact + 2000


def test_images_without_objects_and_detections_are_kept(tmp_path):
    objects, found = draw_images(2, 1, torch.Generator(), most=0, detections=0)
    (tmp_path / "a.safetensors").write_bytes(
        detections_content(StoredDetections(tuple(found), tuple(objects), torch.arange(2)))
    )
    again = read_detections(tmp_path / "a.safetensors", 2, 1)
    assert [len(image) for image in (*again.found, *again.objects)] == [0, 0, 0, 0]


def changed(name, change):
    def apply(tensors):
        value = tensors[name].clone()
        change(value)
        tensors[name] = value

    return apply


DAMAGE = {
    "no tensor": (lambda tensors: tensors.pop("object_crowd"), "no object_crowd of torch.bool"),
    "shape": (lambda tensors: tensors.update(boxes=tensors["boxes"][:, :3].contiguous()), "no boxes of"),
    "a number": (lambda tensors: tensors.update(scores=torch.tensor(1.0)), "no boxes of"),
    "dtype": (lambda tensors: tensors.update(labels=tensors["labels"].float()), "no labels of torch.int64"),
    "few images": (lambda tensors: tensors.update(ids=tensors["ids"][:-1]), r"no ids of torch.int64 and shape \(9,\)"),
    "same image": (changed("ids", lambda ids: ids.fill_(3)), "name an image twice"),
    "size": (changed("sizes", lambda sizes: sizes[0].fill_(0)), "sizes are not positive"),
    "label": (changed("labels", lambda labels: labels[0].fill_(CLASSES)), "labels are not those of 4 classes"),
    "negative": (changed("object_labels", lambda labels: labels[0].fill_(-1)), "object_labels are not those"),
    "few": (changed("counts", lambda counts: counts[0].add_(1)), "counts do not add up"),
    "below 0": (changed("counts", lambda counts: counts[:2].copy_(torch.tensor([-1, counts[:2].sum() + 1]))),
                "counts do not add up"),
    "overflow": (changed("object_counts", lambda counts: counts[:4].fill_(2**62)), "object_counts do not add up"),
    "NaN score": (changed("scores", lambda scores: scores[0].fill_(torch.nan)), "scores are not in"),
    "large score": (changed("scores", lambda scores: scores[0].fill_(1.5)), "scores are not in"),
    "order": (lambda tensors: tensors.update(scores=tensors["scores"].flip(0)), "not in descending order"),
    "infinite": (changed("boxes", lambda boxes: boxes[0, 2].fill_(torch.inf)), "its boxes are not finite"),
    "turned": (changed("object_boxes", lambda boxes: boxes[0, 2].fill_(-9)), "object_boxes are not finite with left"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_says_what_is_wrong(stored, tmp_path, kind):
    damage, message = DAMAGE[kind]
    tensors = stored.tensors()
    damage(tensors)
    save_file(tensors, tmp_path / "a.safetensors", {"format": FORMAT})
    with pytest.raises(UnreadableError, match=message):
        read_detections(tmp_path / "a.safetensors", IMAGES, CLASSES)


def test_other_files_are_refused(stored, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(stored.tensors(), path, {"format": "2"})
    with pytest.raises(UnreadableError, match="its format is 2, not detections-1"):
        read_detections(path, IMAGES, CLASSES)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UnreadableError, match="cannot be read"):
        read_detections(path, IMAGES, CLASSES)
    with pytest.raises(FileNotFoundError):
        read_detections(tmp_path / "missing.safetensors", IMAGES, CLASSES)


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_have_all_detections_in_the_order_of_the_set(stored, processes):
    handed = []

    class Noting(Group):
        def from_all(self, value):
            handed.append(pickle.loads(pickle.dumps(value)))  # as it would travel
            return handed[:1] * processes

    class Answering(Group):
        def from_all(self, _):
            return handed

    machine = Machine(torch.device("cpu"), "32", 0, processes)
    for rank in range(processes):
        own = stored.found[rank::processes]
        own += own[:1] * (-(-IMAGES // processes) - len(own))  # a stand-in where a process has an image less
        gather_detections(Noting(machine), own, 1)
    whole = gather_detections(Answering(machine), own, IMAGES)
    assert same(StoredDetections(whole, stored.objects, stored.ids), stored)


def test_one_process_has_all_detections(stored):
    alone = gather_detections(Group(Machine(torch.device("cpu"), "32")), stored.found, IMAGES)
    assert same(StoredDetections(alone, stored.objects, stored.ids), stored)
