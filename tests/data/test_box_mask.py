import torch

from stillroom.data.box_mask import box_mask


def test_a_box_covers_its_pixels_and_no_others():
    boxes = torch.tensor([[1, 2, 3, 4], [-5, 3, 9, 9], [2, 2, 2, 4]])
    mask = box_mask(boxes, 4, 5)
    expected = torch.zeros(3, 1, 4, 5, dtype=torch.bool)
    expected[0, 0, 1:3, 2:4] = True
    expected[1, 0, :, 3:] = True
    assert torch.equal(mask, expected)
