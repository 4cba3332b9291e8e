from __future__ import annotations

import pytest
import torch

from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.teachers.model_signature import TensorSpec, image_input, prediction_outputs

LOGITS = TensorSpec("logits", torch.float32, (None, 10))
FEATURES = TensorSpec("features", torch.float32, (None, 64))
CLASSES = TensorSpec("classes", torch.int32, (None, 5))
LABEL = TensorSpec("label", torch.int64, (None, 1))


@pytest.mark.parametrize(
    ("shape", "batch", "size", "channels_last"),
    [
        ((None, 3, 32, 48), None, (32, 48), False),
        ((1, 3, None, None), 1, None, False),
        ((8, 32, 48, 3), 8, (32, 48), True),
        ((None, None, None, 3), None, None, True),
        ((None, None, None, None), None, None, False),
        ((None, 3, 3, 3), None, (3, 3), False),
    ],
)
def test_the_layout_of_the_images_follows_from_the_shape(shape, batch, size, channels_last):
    found = image_input([TensorSpec("x", torch.float16, shape)], 3, "teacher=x")
    assert (found.batch, found.size, found.channels_last) == (batch, size, channels_last)
    arranged = found.arrange(torch.zeros(2, 3, 4, 5))
    assert arranged.shape == ((2, 4, 5, 3) if channels_last else (2, 3, 4, 5))
    assert arranged.dtype == torch.float16
    assert arranged.is_contiguous()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "has no input; a teacher has one input"),
        ([LOGITS, LABEL], r"has 2 inputs: logits \(float32, \? x 10\), label"),
        ([LOGITS], r"its input logits \(float32, \? x 10\) is no batch of images"),
        ([TensorSpec("x", torch.uint8, (None, 3, 8, 8))], "must have floating-point values"),
        ([TensorSpec("x", torch.float32, (None, 4, 8, 8))], "has 4 channels, and the images have 3"),
    ],
)
def test_inputs_that_are_no_images_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        image_input(inputs, 3, "teacher=x")


def test_a_fixed_size_is_the_size_of_the_format():
    fixed = image_input([TensorSpec("x", torch.float32, (None, 3, 32, 48))], 3, "teacher=x")
    free = InputFormat((0.5,) * 3, (0.5,) * 3)
    assert fixed.agree(free, "teacher=x").size == (32, 48)
    with pytest.raises(InputError, match="takes images of 48x32 pixels only, and teacher_image_size is 64x64"):
        fixed.agree(InputFormat(free.mean, free.std, (64, 64)), "teacher=x")


def test_outputs_are_found_by_what_the_teacher_offers():
    assert prediction_outputs([LOGITS, LABEL], "logits", (), "teacher=x") == (LOGITS,)
    assert prediction_outputs([LOGITS, LABEL], "labels", (), "teacher=x") == (LABEL,)
    assert prediction_outputs([FEATURES, CLASSES], "top-k", (), "teacher=x") == (CLASSES, FEATURES)
    assert prediction_outputs([FEATURES, LOGITS], "logits", ["logits"], "teacher=x") == (LOGITS,)


def test_outputs_that_do_not_fit_are_refused_with_their_names():
    with pytest.raises(InputError, match=r"2 outputs that can hold logits: features .*, logits .*teacher_output_name="):
        prediction_outputs([FEATURES, LOGITS], "logits", (), "teacher=x")
    with pytest.raises(InputError, match=r"none of them has whole numbers of shape \(batch,\) for labels"):
        prediction_outputs([LOGITS], "labels", (), "teacher=x")
    with pytest.raises(InputError, match="teacher_output_name=score: teacher=x has no output score"):
        prediction_outputs([LOGITS], "logits", ["score"], "teacher=x")
