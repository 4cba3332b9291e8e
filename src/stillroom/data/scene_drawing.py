"""Draw a scene: characters and shapes that look alike, some over others, on a textured background, with their boxes.

A scene depends on its key only. All random numbers come from one Philox generator. Lengths are fractions of the side:
a larger side gives a finer image of scenes of the same kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from stillroom.data.glyph_drawing import glyph_masks

# A mirrored object is never an object of another class, so images may be flipped.
CHARACTERS = "O0QI1iB8CGPR"
SHAPES = ("circle", "square", "diamond", "triangle")
CLASSES = (*CHARACTERS, *SHAPES)

NATURAL_SIDE = 128  # at which the sizes below are 10 to 40 pixels
LEAST, MOST = 3, 8  # objects that are placed; one without room is left out
_SIZES = (10 / NATURAL_SIDE, 40 / NATURAL_SIDE)  # longest side of an object
_TURN, _STRETCH = 12.0, 0.12  # degrees; relative difference between horizontal and vertical scale
_HIDDEN = 0.35  # largest overlap of two boxes as a fraction of the smaller
_TOUCH = 0.5  # probability that an object is placed over another one, where one of the tries allows it
_TRIES = 20
_CONTRAST = (0.25, 0.6)  # difference in brightness to the background's mean
_CHROMA, _TEXTURE, _NOISE = 0.2, 0.12, 0.02
_LINES = 2
_INKED = [value if value >= 40 else 0 for value in range(256)]  # fainter pixels of a mask are not drawn
_SIDE, _STROKE = 64, 5  # of the masks of shapes

_Array = NDArray[Any]
_Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One scene.

    Attributes:
        image: uint8 (side, side, 3).
        boxes: float32 (n, 4), left, top, right and bottom edge of the pixels of each object, also of those that a later
            object covers.
        labels: int64 (n,), indices into :data:`CLASSES`.
    """

    image: _Array
    boxes: _Array
    labels: _Array


def draw_scene(key: tuple[int, int, int], fonts: tuple[str, ...], side: int = NATURAL_SIDE) -> Scene:
    """Draw one scene.

    Args:
        key: (seed, split, id).
        fonts: fonts inside matplotlib that the characters are from.
        side: height and width in pixels, >= 32.
    """
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
    masks = _masks(fonts)
    paper = random.uniform(0.2, 0.8)
    canvas = _background(random, paper, side)
    boxes: list[_Box] = []
    labels: list[int] = []
    for _ in range(random.integers(LEAST, MOST + 1)):
        label = int(random.integers(len(CLASSES)))
        mask = _turned(random, masks[int(random.integers(len(masks)))][label], side)
        box = _place(random, mask.size, boxes, side)
        colour = _colour(random, paper)
        if box is not None:
            canvas.paste(colour, box, mask)
            boxes.append(box)
            labels.append(label)
    noisy = random.standard_normal((side, side, 3), np.float32)
    noisy *= 255 * _NOISE
    noisy += np.asarray(canvas)
    image = noisy.round(out=noisy).clip(0, 255, out=noisy).astype(np.uint8)
    return Scene(image, np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(labels, np.int64))


@lru_cache(maxsize=4)
def _masks(fonts: tuple[str, ...]) -> list[list[Image.Image]]:
    """The mask of each class in each font; shapes are the same in all."""
    values = (glyph_masks(fonts, CHARACTERS).numpy() * 255).round().astype(np.uint8)
    shapes = [_shape(name) for name in SHAPES]
    return [[*(Image.fromarray(mask) for mask in row), *shapes] for row in values]


def _shape(name: str) -> Image.Image:
    """The outline of a shape, drawn four times as large and averaged."""
    fine, edge = 4 * _SIDE, 32
    low, mid, high = edge, fine // 2, fine - edge
    page = Image.new("L", (fine, fine))
    pen = ImageDraw.Draw(page)
    if name == "circle":
        pen.ellipse((low, low, high, high), outline=255, width=4 * _STROKE)
        return page.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    corners = {
        "square": ((low, low), (high, low), (high, high), (low, high)),
        "diamond": ((mid, low), (high, mid), (mid, high), (low, mid)),
        "triangle": ((mid, low), (high, high), (low, high)),
    }[name]
    pen.line((*corners, corners[0], corners[1]), fill=255, width=4 * _STROKE, joint="curve")
    return page.resize((_SIDE, _SIDE), Image.Resampling.BOX)


def _turned(random: np.random.Generator, mask: Image.Image, side: int) -> Image.Image:
    """A mask at a random size, angle and stretch, cut to its drawn pixels."""
    turned = mask.rotate(random.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR, expand=True)
    turned = turned.crop(turned.getbbox())
    size = side * float(np.exp(random.uniform(*np.log(_SIZES))))
    stretch = 1 + random.uniform(-_STRETCH, _STRETCH)
    width, height = turned.width * stretch, turned.height / stretch
    scale = size / max(width, height)
    new = max(2, round(width * scale)), max(2, round(height * scale))
    small = turned.resize(new, Image.Resampling.BOX if max(new) < max(turned.size) else Image.Resampling.BICUBIC)
    inked = small.point(_INKED)
    return inked.crop(inked.getbbox())


def _place(random: np.random.Generator, size: tuple[int, int], others: list[_Box], side: int) -> _Box | None:
    """A box of a size inside the image that leaves most of each other box, and of its own, free; None without room."""
    touch = random.random() < _TOUCH
    free: _Box | None = None
    for left, top in random.integers(0, (side - size[0] + 1, side - size[1] + 1), (_TRIES, 2)).tolist():
        box = left, top, left + size[0], top + size[1]
        most = max((_shared(box, other) for other in others), default=0.0)
        if most <= _HIDDEN and (most > 0 or not touch):
            return box
        if most <= _HIDDEN and free is None:
            free = box
    return free


def _shared(one: _Box, other: _Box) -> float:
    """The overlap of two boxes as a fraction of the smaller."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(0, width) * max(0, height) / min(areas)


def _colour(random: np.random.Generator, paper: float) -> tuple[int, int, int]:
    """A colour brighter or darker than the background, whichever stays in range; either where both do."""
    step = random.uniform(*_CONTRAST)
    up = random.random() < 0.5 if step <= paper <= 1 - step else paper < 0.5
    grey = paper + step if up else paper - step
    red, green, blue = ((grey + random.uniform(-_CHROMA, _CHROMA, 3)).clip(0, 1) * 255).round().astype(int).tolist()
    return red, green, blue


def _background(random: np.random.Generator, paper: float, side: int) -> Image.Image:
    """Blotches of two sizes around a tint, with a few lines over them."""
    tint = paper + random.uniform(-_CHROMA, _CHROMA, 3) / 2
    canvas = np.broadcast_to(tint, (side, side, 3)).astype(np.float32)
    for cells, strength in ((5, _TEXTURE), (20, _TEXTURE / 2)):
        coarse = (random.uniform(-1, 1, (cells, cells, 3)) * 127 + 128).astype(np.uint8)
        smooth = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        canvas = canvas + strength * (np.asarray(smooth, np.float32) / 127.5 - 1)
    image = Image.fromarray((canvas.clip(0, 1) * 255).round().astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(random.integers(_LINES + 1)):
        ends = [tuple(end) for end in random.integers(0, side, (2, 2)).tolist()]
        pen.line(ends, fill=_colour(random, paper), width=max(1, side // NATURAL_SIDE))
    return image.filter(ImageFilter.BoxBlur(side / NATURAL_SIDE / 2))
