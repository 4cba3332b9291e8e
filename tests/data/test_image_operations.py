import pytest
import torch

from stillroom.data.image_operations import Operation, Turns, apply_in_turn, check_channels, cover
from stillroom.errors import InputError

TABLE = (
    Operation("add", 0, 9, lambda images, strengths: images + strengths.to(torch.uint8).view(-1, 1, 1, 1)),
    Operation("double", 0, 0, lambda images, _: 2 * images),
)


def test_each_image_goes_through_its_own_operations_in_their_order():
    images = torch.full((3, 1, 2, 2), 10, dtype=torch.uint8)
    turns = Turns(torch.tensor([[0, 1], [1, 0], [0, 0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]))
    made = apply_in_turn(images, TABLE, turns)
    assert made[:, 0, 0, 0].tolist() == [22, 22, 17]
    assert (images == 10).all()
    assert torch.equal(apply_in_turn(images + 0.4, TABLE, turns), made)
    assert torch.equal(apply_in_turn(images[1:2], TABLE, turns.take(torch.tensor([1]))), made[1:2])


def test_boxes_are_clipped():
    made = cover(torch.zeros(2, 3, 4, 5), torch.tensor([[-1, 3, 2, 9], [1, 1, 1, 1]]), (1, 2, 3))
    assert made[0, :, :2, 3:].flatten(1).unique(dim=1).flatten().tolist() == [1, 2, 3]
    assert made.count_nonzero() == 3 * 4


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels):
    with pytest.raises(InputError, match=f"strong is True for images with {channels} channels; it needs 1 or 3"):
        check_channels(channels, "strong is True")
