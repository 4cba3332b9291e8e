import numpy as np
import pytest

from stillroom.data import scene_drawing
from stillroom.data.glyphs import TRAIN_FONTS
from stillroom.data.scene_drawing import CLASSES, LEAST, MOST, draw_scene

KEYS = [(0, 0, number) for number in range(12)]


def areas(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def test_a_scene_is_a_function_of_its_key():
    for key in KEYS[:3]:
        one, other = draw_scene(key, TRAIN_FONTS), draw_scene(key, TRAIN_FONTS)
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.labels, other.labels)
    images = {draw_scene(key, TRAIN_FONTS).image.tobytes() for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))}
    assert len(images) == 4


def test_boxes_are_inside_and_some_overlap():
    overlaps = 0
    for key in KEYS:
        scene = draw_scene(key, TRAIN_FONTS)
        assert 1 <= len(scene.boxes) <= MOST
        assert scene.boxes.min() >= 0
        assert scene.boxes.max() <= 128
        longest = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(1)
        assert longest.min() >= 8
        assert longest.max() <= 41
        boxes = [*scene.boxes]
        for place, one in enumerate(boxes):
            for other in boxes[:place]:
                shared = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
                assert shared <= 0.36 * areas(np.stack((one, other))).min()
                overlaps += shared > 0
    assert overlaps > len(KEYS)
    assert max(len(draw_scene(key, TRAIN_FONTS).boxes) for key in KEYS) >= LEAST


@pytest.mark.parametrize("side", [64, 128])
def test_boxes_are_tight_around_the_drawn_pixels(monkeypatch, side):
    """On a plain background without noise, each object alone changes exactly the pixels up to the edges of its box."""
    from PIL import Image

    def plain(random, paper, side):
        return Image.new("RGB", (side, side), (round(255 * paper),) * 3)

    monkeypatch.setattr(scene_drawing, "_background", plain)
    monkeypatch.setattr(scene_drawing, "_NOISE", 0.0)
    monkeypatch.setattr(scene_drawing, "LEAST", 1)
    monkeypatch.setattr(scene_drawing, "MOST", 1)
    found = set()
    for number in range(40):
        scene = draw_scene((3, 0, number), TRAIN_FONTS, side)
        changed = (scene.image != scene.image[0, 0]).any(2)
        if changed.mean() > 0.5:  # the object covers the corner
            continue
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert scene.boxes.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
        found.add(CLASSES[scene.labels[0]])
    assert len(found) > 10
