import torch
from torch import nn

from stillroom.batch import Batch
from stillroom.models.predict import predict, predict_batch


def batches(*sizes, stand_in=(), strong=False):
    """Batches of so many images of 1x2x2, whose values are their ids."""
    start = 0
    for number, size in enumerate(sizes):
        ids = torch.arange(start, start + size)
        images = ids.float()[:, None, None, None].expand(-1, 1, 2, 2).clone()
        yield Batch(images, ids % 3, ids, images + 100 if strong else None, number in stand_in)
        start += size


def network():
    """Its logits are the image's value, times 1, 2 and 3; with dropout, which evaluation mode turns off."""
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(1, 3, bias=False))
    with torch.no_grad():
        model[3].weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    return model


def test_logits_and_labels_of_all_images_in_order_without_stand_ins():
    logits, labels = predict(network(), batches(4, 3, 1, stand_in=(2,)))
    assert logits[:, 0].tolist() == list(range(7))
    assert logits[:, 2].tolist() == [3.0 * value for value in range(7)]
    assert labels.tolist() == [value % 3 for value in range(7)]
    assert not logits.requires_grad


def test_modes_are_put_back_module_by_module():
    model = network().train()
    model[2].eval()
    predict(model, batches(2))
    assert [layer.training for layer in model] == [True, True, False, True]


def test_logits_are_float32_whatever_the_pass_computes_in():
    logits, _ = predict(network(), batches(3), torch.autocast("cpu", torch.bfloat16))
    assert logits.dtype == torch.float32


def test_a_batch_with_a_strong_view_gives_the_logits_of_both():
    model = network().eval()
    (with_strong,), (without,) = batches(3, strong=True), batches(3)
    output = predict_batch(model, None, with_strong)
    assert output.logits[:, 0].tolist() == [0, 1, 2]
    assert output.parts["logits_strong"][:, 0].tolist() == [100, 101, 102]
    assert "logits_strong" not in predict_batch(model, None, without).parts
