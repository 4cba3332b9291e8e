"""FT, factor transfer: the student's factor learns the one that an autoencoder finds in the teacher's last map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.losses.checks import check_feature, check_maps, check_pair, check_positive
from stillroom.losses.connectors import cast_for, check_whole, match_size, not_connected, place, smaller_size
from stillroom.losses.finite import check_result
from stillroom.losses.numerics import or_one, widen
from stillroom.losses.protocol import settings_repr

if TYPE_CHECKING:
    from collections.abc import Sequence


def ft(student_factor: Tensor, teacher_factor: Tensor, *, power: int = 2, norm: int = 1) -> Tensor:
    """Compute factor transfer's loss.

    A factor becomes one map per sample, the channels' mean of f^power, flattened and scaled to length 1:
    ``n(f) = vec(mean_c f^power) / ||vec(mean_c f^power)||``. Then FT = mean over samples and places of
    ``|n(f_s) - n(f_t)|^norm``. It is 0 where the two maps are proportional: neither a factor's scale nor its number of
    channels matters. The larger map is first averaged to the smaller one's size. An all-zero factor has n = 0.

    Args:
        student_factor: (B, C, H, W), any floating dtype; computed in float32 at least.
        teacher_factor: (B, C', H', W'); no gradient reaches it.
        power: p1 in public code, at least 1.
        norm: p2 in public code, at least 1.

    Returns:
        A scalar, float32 (float64 if an input is).

    Raises:
        ValueError: a factor is not (B, C, H, W) floating or is empty, the two disagree in batch or device, or power
            or norm is not a whole number of at least 1.

    Reference:
        Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018,
        arXiv 1802.04977.

    Example:
        >>> import torch
        >>> ft(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 2.0]]]]))
        tensor(1.)
        >>> ft(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[2.0, 6.0]]]]))
        tensor(0.)
    """
    check_feature("student_factor", student_factor, dimensions=4, shape="(B, C, H, W)")
    check_feature("teacher_factor", teacher_factor, dimensions=4, shape="(B, C, H, W)")
    check_pair("student_factor", student_factor, "teacher_factor", teacher_factor)
    check_whole(1, power=power, norm=norm)
    student, teacher = widen(student_factor, teacher_factor)
    size = smaller_size(student, teacher)
    gap = (_direction(match_size(student, size), power) - _direction(match_size(teacher, size), power)).abs()
    return gap.pow(norm).mean()


class FT(nn.Module):
    """:func:`ft` between a paraphraser on the teacher's last map and a translator on the student's.

    The paraphraser is an autoencoder: three 3x3 convolutions with LeakyReLU(0.1) down to the factor, three
    transposed ones back. In the epochs 1 to ``initial_epochs`` only it learns, by the mean squared error of its
    reconstruction, with weight 1 and without any other term. Afterwards it is frozen and the
    translator, three convolutions with batch normalisation and LeakyReLU(0.1), learns with the student.

    Args:
        rate: channels of the factor as a fraction of the teacher's channels, above 0.
        initial_epochs: epochs for the paraphraser; at 0 it stays a random projection.
        power: as in :func:`ft`.
        norm: as in :func:`ft`.

    Raises:
        ValueError: rate is not finite and above 0, initial_epochs is not a whole number of at least 0, or power or
            norm is not one of at least 1.

    Example:
        >>> import torch
        >>> maps = [torch.rand(2, 8, 4, 4)], [torch.rand(2, 12, 4, 4)]
        >>> loss = FT(initial_epochs=5).connect(*maps)
        >>> reconstruction, transfer = loss(*maps, epoch=5), loss(*maps, epoch=6)
        >>> reconstruction.requires_grad, transfer.requires_grad
        (True, True)
    """

    paraphraser: _Paraphraser | None
    translator: nn.Sequential | None

    per_sample = True

    def __init__(self, rate: float = 0.5, initial_epochs: int = 30, power: int = 2, norm: int = 1) -> None:
        super().__init__()
        check_positive(rate=rate)
        check_whole(0, initial_epochs=initial_epochs)
        check_whole(1, power=power, norm=norm)
        self.rate = rate
        self.initial_epochs = initial_epochs
        self.power = power
        self.norm = norm
        self.paraphraser = None
        self.translator = None

    def connect(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Self:
        """Build the paraphraser and the translator for the last level.

        Args:
            student_maps: an example of each level, (B, C, H, W).
            teacher_maps: as many; channels and sizes may differ.

        Raises:
            ValueError: the maps do not fit each other.
        """
        check_maps(student_maps, teacher_maps)
        student, teacher = student_maps[-1], teacher_maps[-1]
        factor = max(1, int(self.rate * teacher.shape[1]))
        self.paraphraser = place(_Paraphraser(teacher.shape[1], factor), teacher)
        self.translator = place(_encoder(student.shape[1], factor, normalised=True), student)
        return self

    def forward(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], epoch: int = 1) -> Tensor:
        """Return the reconstruction's error up to ``initial_epochs``, then :func:`ft` of the two factors.

        Raises:
            RuntimeError: :meth:`connect` was not called.
        """
        check_maps(student_maps, teacher_maps)
        if self.paraphraser is None or self.translator is None:
            raise not_connected(self, "student_maps, teacher_maps")
        teacher = cast_for(self.paraphraser, teacher_maps[-1].detach())
        if epoch <= self.initial_epochs:
            rebuilt, original = widen(self.paraphraser(teacher), teacher)
            return check_result(F.mse_loss(rebuilt, original), teacher_map=original)
        with torch.no_grad():
            teacher_factor = self.paraphraser.encoder(teacher)
        student_factor = self.translator(cast_for(self.translator, student_maps[-1]))
        return ft(student_factor, teacher_factor, power=self.power, norm=self.norm)

    extra_repr = settings_repr


class _Paraphraser(nn.Module):
    """An autoencoder on maps; its code is the factor. It has no batch normalisation, so freezing needs no mode."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.encoder = _encoder(channels, factor, normalised=False)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(factor, factor, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(factor, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
        )

    def forward(self, teacher_map: Tensor) -> Tensor:
        rebuilt: Tensor = self.decoder(self.encoder(teacher_map))
        return rebuilt


def _encoder(channels: int, factor: int, *, normalised: bool) -> nn.Sequential:
    """Three 3x3 convolutions to the factor's channels, each with LeakyReLU, normalised or not."""
    layers: list[nn.Module] = []
    for into, out in ((channels, channels), (channels, factor), (factor, factor)):
        layers.append(nn.Conv2d(into, out, 3, padding=1))
        if normalised:
            layers.append(nn.BatchNorm2d(out))
        layers.append(nn.LeakyReLU(0.1))
    return nn.Sequential(*layers)


def _direction(factor: Tensor, power: int) -> Tensor:
    """(B, C, H, W) to the (B, H W) vector of length 1; zeros stay zeros, with gradient 0."""
    # The result does not depend on a sample's scale, so dividing it out costs nothing and keeps powers in range.
    scaled = factor / or_one(factor.detach().abs().amax((1, 2, 3), keepdim=True))
    return F.normalize(scaled.pow(power).mean(1).flatten(1))
