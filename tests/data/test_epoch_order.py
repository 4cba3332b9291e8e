import torch

from stillroom.data.epoch_order import balanced_order, shuffled_order, source_order
from stillroom.data.random_table import OCCURRENCE

COUNTS = (60, 25, 3, 0, 1)  # images of each class
IDS = torch.arange(sum(COUNTS)) * 2 + 5
LABELS = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))


def shown(order, labels=LABELS):
    """How often each class is shown."""
    return torch.bincount(labels[order.places], minlength=len(COUNTS)).tolist()


def test_every_class_is_shown_equally_often():
    for epoch in range(4):
        order = balanced_order(LABELS, IDS, 3, epoch)
        assert len(order.places) == len(LABELS)
        assert sorted(shown(order)) == [0, 22, 22, 22, 23]  # 89 positions
        assert torch.equal(order.keys % OCCURRENCE, IDS[order.places])
        assert len(order.keys.unique()) == len(order.keys)
        of_each = torch.bincount(order.places, minlength=len(LABELS))
        assert of_each[:60].max() == 1  # a part of a large class
        assert sorted(of_each[85:88].tolist()) in ([7, 7, 8], [7, 8, 8])  # all of a small class, equally often
        assert set((order.keys[order.places == 88] // OCCURRENCE).tolist()) == set(range(int(of_each[88])))


def test_the_order_is_random_and_depends_on_seed_and_epoch():
    orders = [balanced_order(LABELS, IDS, *key) for key in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert torch.equal(orders[0].keys, orders[1].keys)
    for other in orders[2:]:
        assert not torch.equal(orders[0].keys, other.keys)
        large = [set(order.places[LABELS[order.places] == 0].tolist()) for order in (orders[0], other)]
        assert large[0] != large[1]
    halves = LABELS[orders[0].places].split(45)
    assert all(8 <= int((half == 1).sum()) <= 15 for half in halves)


def test_another_class_gets_the_position_that_is_left_in_other_epochs():
    most = {max(range(5), key=shown(balanced_order(LABELS, IDS, 0, epoch)).__getitem__) for epoch in range(20)}
    assert most == {0, 1, 2, 4}


def test_first_occurrences_are_in_the_order_of_shuffling():
    balanced, shuffled = balanced_order(LABELS, IDS, 2, 5), shuffled_order(IDS, 2, 5)
    first = balanced.keys[balanced.keys < OCCURRENCE].tolist()
    among = set(first)
    assert first == [key for key in shuffled.keys.tolist() if key in among]
    assert torch.equal(source_order(IDS).keys, IDS)


def test_images_without_a_label_are_shown_once():
    labels = LABELS.clone()
    labels[::4] = -1
    order = balanced_order(labels, IDS, 0, 1)
    without = order.places[labels[order.places] < 0]
    assert sorted(without.tolist()) == (labels < 0).nonzero().flatten().tolist()
    counts = torch.bincount(labels[order.places].clamp_min(0), minlength=5) - torch.tensor([len(without), 0, 0, 0, 0])
    assert int(counts.max() - counts[counts > 0].min()) <= 1
