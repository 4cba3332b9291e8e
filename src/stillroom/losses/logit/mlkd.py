"""MLKD, multi-level logit distillation: predictions, sample similarities and class similarities are matched."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits, check_temperature
from stillroom.losses.logit.kd import kd
from stillroom.losses.logit.standardize import standardize
from stillroom.losses.numerics import widen
from stillroom.losses.protocol import settings_repr
from stillroom.losses.strong_view import check_strong_view

BOTH_VIEWS = (3.0, 5.0)  # further temperatures of the weak and the strong view
WEAK_ONLY = (2.0, 6.0)  # further temperatures at which only the weak view is ever compared


class MLKDTerms(NamedTuple):
    """The three levels of multi-level logit distillation, scalars; their sum is the loss."""

    instance: Tensor
    batch: Tensor
    class_: Tensor


def mlkd_terms(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0) -> MLKDTerms:
    """Compute the three levels at one temperature for one view.

    With P_s, P_t the (B, C) softmaxes at temperature T, and ``||.||`` the Frobenius norm::

        instance = KD, T^2 times the batch mean of KL(P_t || P_s), see :func:`kd`
        batch    = ||P_t P_t^T - P_s P_s^T||^2 / B, how alike two samples are
        class_   = ||P_t^T P_t - P_s^T P_s||^2 / C, how alike two classes are

    Only the instance level has the factor T^2. All are >= 0, and 0 where the softmaxes agree.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        temperature: T, above 0.

    Returns:
        Three scalars, float32 (float64 if an input is).

    Raises:
        ValueError: the logits disagree in shape or device, are not (B, C) floating, B = 0 or C < 2; or the
            temperature is not finite and above 0.

    Reference:
        Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, pages 24276-24285.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> mlkd_terms(student, teacher, temperature=1.0)
        MLKDTerms(instance=tensor(0.1156), batch=tensor(0.0649), class_=tensor(0.0367))
    """
    instance = kd(student_logits, teacher_logits, temperature=temperature)
    student, teacher = widen(student_logits, teacher_logits)
    return MLKDTerms(instance, *_gram_terms(student, teacher, temperature))


def mlkd_published_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_logits_strong: Tensor,
    teacher_logits_strong: Tensor,
    *,
    temperature: float = 4.0,
    standardized: bool = False,
) -> MLKDTerms:
    """Compute the three parts of :func:`mlkd`, summed over temperatures and views as its public code does.

    Arguments, result and errors are those of :func:`mlkd`, whose value is the sum of the three.
    """
    check_logits(student_logits, teacher_logits)
    check_strong_view(student_logits_strong, teacher_logits_strong, student_logits)
    check_temperature(temperature)
    weak = widen(student_logits, teacher_logits)
    strong = widen(student_logits_strong, teacher_logits_strong)
    temperatures = (temperature, *BOTH_VIEWS, *WEAK_ONLY)

    # The public code masks the more confident half of the samples and of the classes, but only after their mean was
    # taken: nothing is selected, and the masks' means only scale the weak view's terms.
    confidence = weak[1].softmax(1)
    samples, classes = _fraction_up_to_median(confidence.amax(1)), _fraction_up_to_median(confidence.sum(0))

    # Only the instance level is standardised; the Gram matrices are those of the raw logits.
    seen_weak, seen_strong = ([standardize(z) for z in view] if standardized else view for view in (weak, strong))
    weak_kd = {t: kd(*seen_weak, temperature=t) for t in set(temperatures)}
    instance = samples * sum(weak_kd[t] for t in temperatures)
    instance = instance + sum(kd(*seen_strong, temperature=t) for t in (temperature, *BOTH_VIEWS))
    # At temperatures 2 and 6 the public code uses the weak view in place of the strong one, unscaled.
    instance = instance + sum(weak_kd[t] for t in WEAK_ONLY)

    # No T^2 on the Grams, and the strong view's Grams, which the public code computes and drops, are not computed.
    grams = {t: _gram_terms(*weak, t) for t in set(temperatures)}
    batch, class_ = (torch.stack([grams[t][level] for t in temperatures]).sum() for level in (0, 1))
    return MLKDTerms(instance, samples * batch, classes * class_)


def mlkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_logits_strong: Tensor,
    teacher_logits_strong: Tensor,
    *,
    temperature: float = 4.0,
    standardized: bool = False,
) -> Tensor:
    """Compute multi-level logit distillation's loss in its published composition.

    With I, G and H the instance, batch and class level of :func:`mlkd_terms`, w the weak and s the strong view,
    m the fraction of samples whose largest teacher probability (weak view, temperature 1) is at most the batch's
    median, n the fraction of classes whose summed teacher probability is at most the classes' median, and
    K = {temperature, 3, 5, 2, 6} with repetition:

        MLKD = sum_{T in K} (m I_w(T) + m G_w(T) + n H_w(T)) + sum_{T in temperature, 3, 5} I_s(T) + I_w(2) + I_w(6)

    This is what the public code trains at weight 1, with its mistakes, which the source and docs/methods/mlkd.md
    name. m and n are 1/2 for even B and C without ties. Neither cross-entropy, which the paper takes
    over both views, nor a weight is included.

    Args:
        student_logits: (B, C), the weak view, any floating dtype; computed in float32 at least.
        teacher_logits: (B, C); no gradient reaches it.
        student_logits_strong: (B, C), the same images in a strongly augmented view.
        teacher_logits_strong: (B, C); no gradient reaches it.
        temperature: the first of the temperatures, above 0.
        standardized: whether the instance level compares z-scores, see :func:`standardize` (LSKD; published with
            temperature 2).

    Returns:
        A scalar, float32 (float64 if an input is), >= 0, and 0 where the networks agree on both views.

    Raises:
        ValueError: the logits disagree in shape or device, are not (B, C) floating, B = 0 or C < 2; or the
            temperature is not finite and above 0.

    Reference:
        Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, pages 24276-24285.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 3.0, 5.0]])
        >>> mlkd(student, teacher, student, teacher)
        tensor(2.9785)
        >>> mlkd(teacher, teacher, student, student)
        tensor(0.)
    """
    terms = mlkd_published_terms(
        student_logits,
        teacher_logits,
        student_logits_strong,
        teacher_logits_strong,
        temperature=temperature,
        standardized=standardized,
    )
    return terms.instance + terms.batch + terms.class_


class MLKD(nn.Module):
    """:func:`mlkd` with its settings.

    Args:
        temperature: the first of the temperatures, above 0.
        standardized: whether the instance level compares z-scores.

    Raises:
        ValueError: the temperature is not finite and above 0.

    Example:
        >>> MLKD(temperature=2.0, standardized=True)
        MLKD(temperature=2.0, standardized=True)
    """

    teacher_offer = "probabilities"

    def __init__(self, temperature: float = 4.0, standardized: bool = False) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.standardized = standardized

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        student_logits_strong: Tensor,
        teacher_logits_strong: Tensor,
    ) -> Tensor:
        """Return :func:`mlkd` of two views' (B, C) logits."""
        return mlkd(
            student_logits,
            teacher_logits,
            student_logits_strong,
            teacher_logits_strong,
            temperature=self.temperature,
            standardized=self.standardized,
        )

    extra_repr = settings_repr


def _gram_terms(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the batch and the class level.

    With D = P_t - P_s and M = P_t + P_s, the difference of the Grams P P^T is the symmetric part of D M^T, and that
    of P^T P the symmetric part of D^T M. So the subtraction happens before the product, where it costs no precision
    (not even in TF32), and each level takes one product instead of two.

    The class level needs no (C, C) matrix either: its squared norm is (<D D^T, M M^T> + <G, G^T>) / 2 with G = D M^T,
    all (B, B). The same expansion of the two Grams' norms cancels: in float32 it is some percent off once the
    probabilities are 1 % apart, and useless at 0.01 %; this one is as exact as the direct form.
    """
    p_student, p_teacher = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    samples, classes = student.shape
    with torch.autocast(student.device.type, enabled=False):
        difference, total = p_teacher - p_student, p_teacher + p_student
        across = difference @ total.T
        batch = ((across + across.T) / 2).square().sum() / samples
        if 2 * samples < classes:  # then two (B, B) products cost less than one (C, C)
            product = (difference @ difference.T) * (total @ total.T)
            class_ = (product.sum() + (across * across.T).sum()) / (2 * classes)
        else:
            along = difference.T @ total
            class_ = ((along + along.T) / 2).square().sum() / classes
    return batch, class_


def _fraction_up_to_median(values: Tensor) -> Tensor:
    """The fraction of the values at most their median: 1/2 for an even number of different ones, up to 1 with ties.

    The lower of two middle values separates as their mean does, and needs no rounding.
    """
    median = values.sort().values[(len(values) - 1) // 2]
    return (values <= median).to(values.dtype).mean()
