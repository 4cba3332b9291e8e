import torch

from stillroom.data.image_feed import MemoryFeed, Request


def test_images_come_in_the_order_of_the_requests(small_set):
    places = [torch.tensor([5, 1]), torch.tensor([0])]
    feed = MemoryFeed(small_set.images, torch.device("cpu"))
    got = list(feed.batches(Request(each, each) for each in places))
    assert [tuple(images.shape) for images in got] == [(1, 2, 3, 12, 10), (1, 1, 3, 12, 10)]
    assert torch.equal(got[0][0], small_set.images[[5, 1]])
