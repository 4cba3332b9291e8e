"""Noise: Gaussian, shot and impulse noise, after Hendrycks and Dietterich, ICLR 2019; strengths of our own."""

from __future__ import annotations

import numpy as np

from stillroom.probe.image_fields import Draws, Pixels, detail_scale, strength

_MOST_IMPULSES = 0.5  # fraction of values


def gaussian_noise(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Add normal noise to each value; its deviation is 0.04 to 0.16 at a side of 32."""
    deviation = np.float32(strength(0.04, 0.16, severity) * detail_scale(images))
    return images + deviation * np.stack([draw.standard_normal(images.shape[1:], np.float32) for draw in draws])


def shot_noise(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Count photons: a Poisson number for each value; 300 to 18 photons make a full value at a side of 32."""
    photons = strength(300, 18, severity) / detail_scale(images) ** 2
    counts = [draw.poisson(photons * image.astype(np.float64)) for draw, image in zip(draws, images, strict=True)]
    return (np.stack(counts) / photons).astype(np.float32)


def impulse_noise(images: Pixels, draws: Draws, severity: int) -> Pixels:
    """Set values to 0 or 1; 1 to 10 percent of them at a side of 32."""
    fraction = min(strength(0.01, 0.1, severity) * detail_scale(images), _MOST_IMPULSES)
    drawn = np.stack([draw.random(images.shape[1:], np.float32) for draw in draws])
    hit = np.where(drawn < fraction / 2, np.float32(0), np.float32(1))
    return np.where(drawn < fraction, hit, images)
