"""Model outputs: extracting the logits and checking their shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError, first_line

ImageSize = int | tuple[int, int]  # one side of a square, or height and width


def logits_of(output: Any) -> Tensor:
    """The logits in a model's output.

    Args:
        output: a tensor; an object with ``.logits`` (Hugging Face outputs, Inception with auxiliary heads); a
            mapping with the key ``"logits"``; or a tuple or list that starts with one of these.

    Returns:
        The logits, unchanged.

    Raises:
        InputError: the output has none of these forms.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(getattr(output, "logits", None), Tensor):
        logits: Tensor = output.logits
        return logits
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        found: Tensor = output["logits"]
        return found
    if isinstance(output, (tuple, list)) and output:
        return logits_of(output[0])
    keys = f" with the keys {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
    raise InputError(
        f"the model returned a {type(output).__name__}{keys} without logits; "
        'return a tensor, an object with .logits, a dict with "logits" or a tuple that starts with the logits'
    )


def check_output(
    model: nn.Module, num_classes: int | None, in_channels: int, image_size: ImageSize, *, headless: bool = False
) -> int:
    """Check the shape of a model's logits with two blank images, and count its classes.

    Runs in evaluation mode without gradients. Every module's training flag is restored; batch-norm statistics do not
    change.

    Args:
        model: any module from images to logits.
        num_classes: the expected number of logits per image; None accepts any number.
        in_channels: channels of the images.
        image_size: height and width of the images, or one number for squares.
        headless: whether its output is an embedding of any width instead.

    Returns:
        The number of logits per image, or the width of the embedding.

    Raises:
        InputError: the model fails on such images, or its output is not (2, num_classes) or (2, any number).
    """
    name = type(model).__name__
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    inputs = f"images of shape (2, {in_channels}, {height}, {width})"
    anchor = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    images = torch.zeros(2, in_channels, height, width, device=anchor.device, dtype=anchor.dtype)
    with evaluating(model), torch.inference_mode():
        try:
            output = model(images)
        except Exception as error:
            reason = first_line(error)
            raise InputError(f"the model {name} fails on {inputs}: {reason}") from error
    shape = tuple(logits_of(output).shape)
    if headless and (len(shape) != 2 or shape[0] != 2 or shape[1] < 1):
        raise InputError(
            f"the model {name} returns an output of shape {shape} for {inputs}; a model whose output is the embedding "
            "must return one vector per image, (B, D)"
        )
    if num_classes is None:
        if len(shape) != 2 or shape[0] != 2 or shape[1] < 1:
            raise InputError(f"the model {name} gives logits of shape {shape} for {inputs}; expected (2, classes)")
    elif shape != (2, num_classes):
        raise InputError(
            f"the model {name} gives logits of shape {shape} for {inputs}; expected (2, {num_classes}): "
            "set its number of classes to the data's"
        )
    return int(shape[1])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Context in evaluation mode; afterwards every module's training flag is restored."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
