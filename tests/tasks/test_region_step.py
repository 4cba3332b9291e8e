import contextlib
import copy

import pytest
import torch
from torch import nn

from stillroom.tasks.region_step import detect, input_statistics, proposal_logits, pyramid, train_pass
from stillroom.tasks.seeded_sampling import SeededSampler
from tests.tasks.tiny_detector import SIDE, TwoLevels, boxes, tiny_detector

TARGETS = (
    boxes((4, 4, 20, 22, 0), (30, 30, 60, 50, 2)),
    boxes((10, 8, 40, 36, 1)),
)
SEEDS = torch.tensor([[1, 2], [3, 4]])
KINDS = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")


def images(count=2):
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def as_torchvision(target):
    return {"boxes": target.boxes, "labels": target.labels + 1}


def test_the_four_losses_and_their_gradients_equal_torchvision():
    model, plain = tiny_detector(), tiny_detector()
    found = train_pass(model, images(), TARGETS, SEEDS)
    plain.rpn.fg_bg_sampler = SeededSampler(plain.rpn.fg_bg_sampler, [1, 3])
    plain.roi_heads.fg_bg_sampler = SeededSampler(plain.roi_heads.fg_bg_sampler, [2, 4])
    expected = plain(list(images()), [as_torchvision(target) for target in TARGETS])
    assert {*found.losses} == {*expected} == {*KINDS}
    for kind in KINDS:
        torch.testing.assert_close(found.losses[kind], expected[kind])
    sum(found.losses.values()).backward()
    sum(expected.values()).backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_detections_equal_torchvision_with_labels_that_have_no_background():
    model = tiny_detector().eval()
    found = detect(model, images(), [(SIDE, SIDE)] * 2)
    with torch.no_grad():
        expected = model(list(images()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.boxes, theirs["boxes"])
        torch.testing.assert_close(ours.scores, theirs["scores"])
        assert torch.equal(ours.labels, theirs["labels"] - 1)
        assert torch.equal(ours.scores, ours.scores.sort(descending=True).values)
        assert {0, 1, 2} == set(ours.labels.tolist())


def test_logits_labels_and_embedding_belong_to_the_sampled_proposals():
    model = tiny_detector()
    found = train_pass(model, images(), TARGETS, SEEDS)
    regions = sum(map(len, found.proposals))
    assert found.logits.shape == (regions, 4)
    assert found.embedding.shape == (regions, 16)
    assert [tuple(level.shape) for level in found.pyramid.values()] == [(2, 8, 16, 16), (2, 8, 8, 8)]
    # The annotated boxes are proposals, with the class of the data plus one.
    labels = found.labels.split([len(one) for one in found.proposals])
    for target, proposals, of_image in zip(TARGETS, found.proposals, labels, strict=True):
        for box, label in zip(target.boxes, target.labels, strict=True):
            assert of_image[(proposals == box).all(1)].tolist() == [label + 1]
    model.eval()
    logits, embedding = proposal_logits(model, images(), pyramid(model, images()), found.proposals)
    torch.testing.assert_close(logits, found.logits.detach())
    torch.testing.assert_close(embedding, found.embedding.detach())
    assert not logits.requires_grad


def test_the_sampled_regions_of_an_image_do_not_depend_on_the_batch():
    both = train_pass(tiny_detector(), images(), TARGETS, SEEDS)
    alone = train_pass(tiny_detector(), images()[1:], TARGETS[1:], SEEDS[1:])
    torch.testing.assert_close(alone.proposals[0], both.proposals[1])
    other = train_pass(tiny_detector(), images()[1:], TARGETS[1:], SEEDS[1:] + 1)
    assert not torch.equal(other.proposals[0], alone.proposals[0])


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_changed(fails):
    model = tiny_detector()
    parts = [model, model.rpn, model.roi_heads]
    before = [dict(vars(part)) for part in parts]
    state = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    seeds = SEEDS[:1] if fails else SEEDS  # one seed for two images
    with pytest.raises(ValueError, match="zip") if fails else contextlib.nullcontext():
        train_pass(model, images(), TARGETS, seeds)
    assert [dict(vars(part)) for part in parts] == before
    assert torch.equal(torch.get_rng_state(), random_state)
    torch.testing.assert_close(dict(model.state_dict()), dict(state))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_image_without_objects_is_background_only():
    found = train_pass(tiny_detector(), images(), (boxes(), TARGETS[1]), SEEDS)
    first = found.labels[: len(found.proposals[0])]
    assert len(first) == 8
    assert not first.any()
    assert all(loss.isfinite() for loss in found.losses.values())


def test_without_any_proposal_and_object_the_whole_image_is_background():
    model = tiny_detector(rpn_score_thresh=1.1)
    found = train_pass(model, images(1), (boxes(size=(40, 50)),), SEEDS[:1])
    assert found.proposals[0].tolist() == [[0, 0, 50, 40]]
    assert found.labels.tolist() == [0]
    assert all(loss.isfinite() for loss in found.losses.values())
    assert [len(one) for one in detect(model.eval(), images(), [(SIDE, SIDE)] * 2)] == [0, 0]


def test_crowd_boxes_are_no_objects():
    crowded = boxes((4, 4, 20, 22, 0), (30, 30, 60, 50, 2), crowd=[1])
    found = train_pass(tiny_detector(), images(1), (crowded,), SEEDS[:1])
    expected = train_pass(tiny_detector(), images(1), (boxes((4, 4, 20, 22, 0)),), SEEDS[:1])
    assert 3 not in found.labels
    torch.testing.assert_close(found.losses, expected.losses)


def test_padding_does_not_change_the_scale_at_which_regions_are_pooled():
    # torchvision would take the scale of the levels from the 30 pixels of this first batch: 1/2 in place of 1/4.
    model = tiny_detector()
    train_pass(model, images(1), (boxes((4, 4, 20, 22, 0), size=(30, 30)),), SEEDS[:1])
    assert model.roi_heads.box_roi_pool.scales == [0.25, 0.125]
    inside = detect(model.eval(), images(1), [(30, 30)])[0]
    assert inside.boxes.max() <= 30


def test_bf16_autocast_keeps_boxes_and_losses_in_float32():
    model = tiny_detector()
    plain = train_pass(model, images(), TARGETS, SEEDS)
    with torch.autocast("cpu", torch.bfloat16):
        found = train_pass(model, images(), TARGETS, SEEDS)
        assert model.backbone(images())["0"].dtype == torch.bfloat16  # autocast is in effect
    tensors = (found.logits, found.embedding, *found.losses.values(), *found.proposals, *found.pyramid.values())
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    for kind in KINDS:
        torch.testing.assert_close(found.losses[kind], plain.losses[kind], rtol=0.1, atol=0.02)
    sum(found.losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    anchors = model.rpn.anchor_generator.cell_anchors
    assert {one.dtype for one in anchors} == {torch.float32}
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        boxes_found = detect(model, images(), [(SIDE, SIDE)] * 2)[0]
    assert boxes_found.boxes.dtype == boxes_found.scores.dtype == torch.float32


def test_a_backbone_with_one_map():
    class OneLevel(TwoLevels):
        def forward(self, x):
            return self.stem(x)

    model = OneLevel()
    holder = nn.Module()
    holder.backbone = model
    assert [*pyramid(holder, images())] == ["0"]


def test_the_mode_must_fit():
    with pytest.raises(ValueError, match=r"call model\.train\(\)"):
        train_pass(tiny_detector().eval(), images(), TARGETS, SEEDS)
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        detect(tiny_detector(), images(), [(SIDE, SIDE)] * 2)


def test_input_statistics_are_those_of_the_transform():
    model = tiny_detector()
    model.transform.image_mean, model.transform.image_std = [0.5, 0.25, 0.125], [1, 2, 4]
    assert input_statistics(model) == ((0.5, 0.25, 0.125), (1.0, 2.0, 4.0))


def test_gradients_are_bit_identical_when_a_step_is_repeated_on_two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = tiny_detector()
        found = []
        for _ in range(2):
            model.zero_grad()
            sum(train_pass(model, images(), TARGETS, SEEDS).losses.values()).backward()
            found.append([parameter.grad.clone() for parameter in model.parameters()])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))
