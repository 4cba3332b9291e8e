import torch
import torch.nn.functional as F

from stillroom.data import resize
from stillroom.data.resize import resize_all


def test_resize_all(monkeypatch):
    images = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    assert resize_all(images, 8) is images
    whole = F.interpolate(images.float(), size=(20, 20), mode="bicubic", antialias=True).round().clamp(0, 255)
    assert torch.equal(resize_all(images, 20), whole.to(torch.uint8))
    monkeypatch.setattr(resize, "_AT_ONCE", 3 * 20 * 20 * 7)  # large images come seven at a time
    assert torch.equal(resize_all(images, 20), whole.to(torch.uint8))
