import pytest
import torch

from stillroom.data.boxed_view import clear_padding, padded_size, rescaled_boxes, resized_size, view_boxes
from tests.data.boxed_images import image_boxes

SIZES = (
    (480, 640),
    (640, 480),
    (427, 640),
    (100, 900),
    (33, 47),
    (1333, 800),
    (7, 10),
    (96, 96),
    (94, 100),
    (309, 400),
)
BOXES = [[0.0, 0.0, 60.0, 30.0], [10.0, 5.0, 40.0, 25.5]]


def test_images_get_the_size_that_torchvision_gives_them():
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(96, 160, [0.0] * 3, [1.0] * 3).eval()
    for size in SIZES:
        theirs, _ = transform.resize(torch.zeros(1, 1, 1).expand(1, *size), None)
        assert resized_size(tuple(size), 96, 160) == tuple(theirs.shape[1:]), size
    assert resized_size((480, 640), 96, 160) == (96, 128)
    assert resized_size((94, 100), 96, 160) == (95, 102)  # 94 * (96 / 94) is below 96 in floating point
    assert resized_size((100, 900), 96, 160) == (17, 160)
    assert resized_size((1, 900), 96, 160) == (1, 160)  # torchvision fails


def test_a_batch_is_as_large_as_its_largest_sides_rounded_up_to_32():
    assert padded_size(torch.tensor([[30, 64], [33, 20]])) == (64, 64)
    assert padded_size(torch.tensor([[1, 65]])) == (32, 96)


@pytest.mark.parametrize("size", [(30, 60), (96, 192), (17, 23)])
def test_boxes_are_rescaled_as_torchvision_does_and_back(size):
    from torchvision.models.detection.transform import resize_boxes

    boxes = torch.tensor(BOXES)
    moved = rescaled_boxes(boxes, (30, 60), size)
    assert torch.equal(moved, resize_boxes(boxes, [30, 60], list(size)))
    torch.testing.assert_close(rescaled_boxes(moved, size, (30, 60)), boxes)


def test_boxes_are_mirrored_and_end_at_the_edges():
    objects = image_boxes([*BOXES, [-4.0, -2.0, 70.0, 20.0]], [1, 0, 1], (30, 60), crowd=[False, True, False])
    view = view_boxes(objects, (15, 30), mirror=True)
    assert view.boxes.tolist() == [[0, 0, 30, 15], [10, 2.5, 25, 12.75], [0, 0, 30, 10]]
    assert view.labels.tolist() == [1, 0, 1]
    assert view.crowd.tolist() == [False, True, False]
    assert view.size == (15, 30)
    assert view_boxes(objects, (15, 30), mirror=False).boxes.tolist()[1] == [5, 2.5, 20, 12.75]
    nothing = view_boxes(image_boxes([], [], (30, 60)), (15, 30), mirror=True)
    assert nothing.boxes.shape == (0, 4)


def test_padding_becomes_zero_and_the_images_stay():
    images = torch.ones(2, 3, 6, 8)
    assert clear_padding(images, [(4, 8), (6, 5)]) is images
    assert images[0].sum() == 3 * 4 * 8
    assert images[1].sum() == 3 * 6 * 5
    assert images[0, :, :4].eq(1).all()
    assert images[1, :, :, :5].eq(1).all()
