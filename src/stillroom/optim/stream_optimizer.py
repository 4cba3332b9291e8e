"""Momentum SGD with several gradient streams: each loss has gradients and a momentum buffer of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

Groups = Iterable[Tensor] | Iterable[dict[str, Any]]


class StreamOptimizer(Optimizer, ABC):
    """Momentum SGD in which each stream of gradients has a momentum of its own.

    A training step computes one loss for each stream, in one forward pass::

        optimizer.accumulate(task=cross_entropy, distillation=9 * kd)  # in place of loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    :meth:`accumulate` takes one backward pass for each stream. :meth:`step` moves the parameters by one stream after
    the other. A subclass says in :meth:`momentum_and_decay` which momentum and weight decay a stream has.

    Args:
        params: the parameters, or groups of them, as for every optimizer of PyTorch.
        defaults: the settings of a group, with at least ``lr`` and ``dampening``.

    Attributes:
        streams: the names of the streams, those of the arguments of :meth:`accumulate`. The first one is the task.
        order: the streams in the order in which a step takes them.
        gradients: the accumulated gradients of each stream, by parameter. A parameter that a stream's loss does not
            depend on is missing there.
    """

    streams: ClassVar[tuple[str, ...]]
    order: ClassVar[tuple[str, ...]]

    def __init__(self, params: Groups, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._forget()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        self.gradients: dict[str, dict[Tensor, Tensor]] = {stream: {} for stream in self.streams}

    @abstractmethod
    def momentum_and_decay(
        self, group: dict[str, Any], stream: str, present: Collection[str], *, fresh: bool
    ) -> tuple[float, float]:
        """Return the momentum and the weight decay of a stream, for parameters with gradients in ``present``.

        Args:
            group: the settings of the parameters.
            stream: one of ``present``.
            present: the streams in which these parameters have a gradient in this step.
            fresh: whether this is the stream's first gradient for these parameters.
        """

    def accumulate(self, **losses: Tensor) -> None:
        """Compute the gradients of each stream's loss and add them to those of the stream.

        The losses may share a graph, which is freed. A loss without a graph adds nothing. The parameters' ``grad`` is
        not used and is None afterwards.

        Args:
            losses: a scalar for each stream, by the stream's name; a stream may be missing.

        Raises:
            ValueError: there is no such stream, or a loss is not a scalar.
        """
        for stream, loss in losses.items():
            if stream not in self.streams:
                raise ValueError(f"{type(self).__name__} has no stream {stream!r}; it has {', '.join(self.streams)}")
            if loss.dim() != 0:
                raise ValueError(f"loss of stream {stream!r} has shape {tuple(loss.shape)}: give a scalar")
        computed = [stream for stream in self.streams if stream in losses and losses[stream].requires_grad]
        parameters = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        for stream in computed:
            there = self.gradients[stream]
            for parameter in parameters:
                parameter.grad = there.get(parameter)  # to which the backward pass adds
            try:
                losses[stream].backward(  # type: ignore[no-untyped-call]
                    retain_graph=stream != computed[-1], inputs=parameters
                )
            finally:
                for parameter in parameters:
                    if parameter.grad is not None:
                        there[parameter] = parameter.grad
                        parameter.grad = None

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale the gradients of all streams by one factor, so that the norm of their sum is at most ``max_norm``.

        Args:
            max_norm: above 0.

        Returns:
            The norm of the summed gradients before, a scalar.
        """
        sums: dict[Tensor, Tensor] = {}
        for there in self.gradients.values():
            for parameter, gradient in there.items():
                sums[parameter] = sums[parameter] + gradient if parameter in sums else gradient
        norm = torch.nn.utils.get_total_norm(sums.values())
        factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
        for there in self.gradients.values():
            for gradient in there.values():
                gradient.mul_(factor.to(gradient.device))
        return norm

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all streams."""
        super().zero_grad(set_to_none)
        self._forget()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the parameters by the accumulated gradients, one stream after the other.

        Args:
            closure: calls :meth:`accumulate`, and returns what ``step`` shall return; not required.

        Raises:
            RuntimeError: there are gradients of ``loss.backward()`` and none of :meth:`accumulate`.
        """
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        if not any(self.gradients.values()):
            self._refuse_plain_gradients()
        for group in self.param_groups:
            present = {
                parameter: tuple(stream for stream in self.streams if parameter in self.gradients[stream])
                for parameter in group["params"]
            }
            for stream in self.order:
                self._step_stream(group, stream, present)
        return result

    def _refuse_plain_gradients(self) -> None:
        if any(p.grad is not None for group in self.param_groups for p in group["params"]):
            raise RuntimeError(
                f"{type(self).__name__} has no gradients: in place of loss.backward() call "
                f"optimizer.accumulate({', '.join(f'{stream}=...' for stream in self.streams)})"
            )

    def _step_stream(self, group: dict[str, Any], stream: str, present: dict[Tensor, tuple[str, ...]]) -> None:
        """Move the parameters of a group by one stream; those with the same rule together."""
        alike: dict[tuple[tuple[str, ...], bool], list[Tensor]] = {}
        for parameter, streams in present.items():
            if stream in streams:
                fresh = _key(stream) not in self.state.get(parameter, ())
                alike.setdefault((streams, fresh), []).append(parameter)
        for (streams, fresh), parameters in alike.items():
            momentum, decay = self.momentum_and_decay(group, stream, streams, fresh=fresh)
            gradients = [self.gradients[stream][parameter] for parameter in parameters]
            if decay:
                gradients = list(torch._foreach_add(gradients, parameters, alpha=decay))
            if momentum:
                gradients = self._through_buffers(parameters, gradients, stream, momentum, group["dampening"])
            torch._foreach_add_(parameters, gradients, alpha=-float(group["lr"]))

    def _through_buffers(
        self, parameters: list[Tensor], gradients: list[Tensor], stream: str, momentum: float, dampening: float
    ) -> list[Tensor]:
        """Add gradients to the stream's buffers, which all exist or are all made here, and return the buffers."""
        states, key = [self.state[parameter] for parameter in parameters], _key(stream)
        if key not in states[0]:
            for state, gradient in zip(states, gradients, strict=True):
                state[key] = gradient.clone()
            return [state[key] for state in states]
        buffers = [state[key] for state in states]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients, alpha=1 - dampening)
        return buffers


def _key(stream: str) -> str:
    """The name of a stream's buffer in a parameter's state."""
    return f"momentum_{stream}"


def check_settings(**settings: float) -> None:
    """Refuse settings of an optimizer that are not finite or out of range.

    Args:
        settings: by name. Names with "momentum" are in [0, 1], others at least 0.

    Raises:
        ValueError: naming the setting and its value.
    """
    for name, value in settings.items():
        most = 1.0 if "momentum" in name else math.inf
        if not (math.isfinite(value) and 0 <= value <= most):
            raise ValueError(f"{name} is {value}: give {'a number from 0 to 1' if most == 1 else 'a number >= 0'}")
