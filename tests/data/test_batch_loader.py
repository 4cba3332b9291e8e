import pytest

from stillroom.data.batch_loader import BatchLoader
from stillroom.input_format import InputFormat


class Positions(BatchLoader):
    """Yields the places of this process's images, and whether they are a stand-in."""

    def epoch(self, epoch, start_step=0):
        for step in range(start_step, len(self)):
            own, stand_in = self._own(step)
            yield self.order(epoch)[own].tolist(), stand_in


def positions(source, **options):
    given = {"balanced": False, "strong": False, "seed": 0, "device": "cpu", "drop_last": False, "repeat_views": None,
             "rank": 0, "world_size": 1, "input_format": InputFormat((0.5,) * 3, (0.5,) * 3)}  # fmt: skip
    return Positions(source, **given | options)


@pytest.mark.parametrize("world_size", [2, 3, 10])
def test_processes_share_the_images_of_each_step(small_set, world_size):
    whole = list(positions(small_set, batch_size=10, shuffle=True).epoch(1))
    parts = [positions(small_set, batch_size=10, shuffle=True, rank=rank, world_size=world_size)
             for rank in range(world_size)]  # fmt: skip
    for step, (places, _) in enumerate(whole):
        own = [next(part.epoch(1, step)) for part in parts]
        assert sorted(place for found, stand_in in own if not stand_in for place in found) == sorted(places)
        assert all(found == places[:1] for found, stand_in in own if stand_in)
        first, _ = own[parts[0].first_owner(step)]
        assert first[0] == places[0]
        assert parts[0].images_in(step) == len(places)


def test_main_labels_are_those_of_the_images_in_the_order_of_the_epoch(small_set):
    loader = positions(small_set, batch_size=10, shuffle=True, repeat_views=2)
    places = [place for found, _ in loader.epoch(1) for place in found]
    assert loader.main_labels(3).tolist() == small_set.labels[places].tolist()
