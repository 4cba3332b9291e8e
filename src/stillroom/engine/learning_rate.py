"""Learning-rate schedules; the learning rate is a pure function of epoch and step."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from stillroom.config import OptimOptions

ONE_CYCLE_RISE = 0.3  # fraction of the run; this and the next two are PyTorch's defaults, too
ONE_CYCLE_START, ONE_CYCLE_END = 25.0, 1e4  # the peak is divided by the first, and the start by the second


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group: the given one times the group's factor ``lr_scale``, if any."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def peak_lr(optimizer: Optimizer) -> float:
    """The largest learning rate of any parameter group."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def lr_at(options: OptimOptions, epoch: int, step: int, steps: int, epochs: int) -> float:
    """The learning rate of one step.

    A milestone takes effect in the epoch after it, and the warm-up ``min(e / warmup, 1)`` rises once per epoch, both as
    published. The other schedules change at every step. The cosine reaches zero at the end of the run. One cycle rises
    to the peak and falls again, each along half a cosine (Smith and Topin, 2018, arXiv 1708.07120).

    Args:
        options: a resolved recipe's options.
        epoch: counted from 1.
        step: within the epoch, counted from 0.
        steps: in one epoch.
        epochs: of the whole run.
    """
    assert options.lr is not None
    if options.schedule == "milestones":
        return _milestones(options, epoch)
    progress, warmup = epoch - 1 + step / steps, options.warmup_epochs
    if options.schedule == "onecycle":
        return _one_cycle(options.lr, progress * steps, (warmup or ONE_CYCLE_RISE * epochs) * steps, epochs * steps)
    if progress < warmup:
        return options.lr * (progress + 1 / steps) / warmup
    if options.schedule == "constant":
        return options.lr
    return _between(options.lr, 0.0, (progress - warmup) / max(epochs - warmup, 1))


def _milestones(options: OptimOptions, epoch: int) -> float:
    assert options.lr is not None
    assert options.milestones is not None
    warmup = options.warmup_epochs
    passed = sum(epoch > milestone for milestone in options.milestones)
    if passed or not warmup:
        return float(options.lr * options.gamma**passed)
    reached = min(epoch, warmup - 1) if options.unfinished_warmup else min(epoch, warmup)
    return float(options.lr * reached / warmup)


def _one_cycle(peak: float, step: float, rise: float, total: float) -> float:
    start, top = peak / ONE_CYCLE_START, rise - 1  # the step of the peak, counted from 0
    if top > 0 and step <= top:
        return _between(start, peak, step / top)
    return _between(peak, start / ONE_CYCLE_END, (step - top) / max(total - 1 - top, 1))


def _between(first: float, last: float, fraction: float) -> float:
    """A value on half a cosine from the first to the last."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * fraction))
