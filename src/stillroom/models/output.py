"""Reading the logits out of whatever a model returns, and proving that they have the right shape."""

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
        The logits as the model made them.

    Raises:
        InputError: none of these.
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


def check_output(model: nn.Module, num_classes: int, in_channels: int, image_size: ImageSize) -> None:
    """Push two blank images through a model and see that logits of the right shape come out.

    Runs in evaluation mode without gradients; every module's training flag is put back, and neither
    batch-norm statistics nor random state change.

    Args:
        model: any module from images to logits.
        num_classes: the expected length of the logits.
        in_channels: channels of the images.
        image_size: their height and width, one number where they are equal.

    Raises:
        InputError: the model fails on such images, or its logits are not (2, num_classes).
    """
    name = type(model).__name__
    height, width = image_size if isinstance(image_size, tuple) else (image_size, image_size)
    tried = f"images of shape (2, {in_channels}, {height}, {width})"
    anchor = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    images = torch.zeros(2, in_channels, height, width, device=anchor.device, dtype=anchor.dtype)
    with evaluating(model), torch.inference_mode():
        try:
            output = model(images)
        except Exception as error:
            reason = first_line(error)
            raise InputError(f"the model {name} fails on {tried}: {reason}") from error
    shape = tuple(logits_of(output).shape)
    if shape != (2, num_classes):
        raise InputError(
            f"the model {name} gives logits of shape {shape} for {tried}; expected (2, {num_classes}): "
            "set its number of classes to the data's"
        )


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module's own training flag restored after."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
