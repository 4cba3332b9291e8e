import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from stillroom.data.glyph_drawing import BLOCK, Difficulty, draw_block, font_path, glyph_masks
from stillroom.data.glyphs import CHARACTERS, FONTS


def overlap(masks):
    """Largest intersection over union of any two characters in one font, and which two."""
    worst = (0.0, "")
    for font, rows in zip(FONTS, masks.flatten(2), strict=True):
        for index in range(1, len(rows)):
            shared = torch.minimum(rows[index], rows[:index]).sum(1)
            share = shared / torch.maximum(rows[index], rows[:index]).sum(1)
            other = int(share.argmax())
            worst = max(worst, (float(share[other]), f"{CHARACTERS[index]} {CHARACTERS[other]} in {font}"))
    return worst


def stretched_masks(side=32):
    """Every character stretched to fill a square, so that only what no scaling can undo is compared."""
    masks = np.zeros((len(FONTS), len(CHARACTERS), side, side), dtype=np.float32)
    for row, name in enumerate(FONTS):
        font = ImageFont.truetype(font_path(name), size=96)
        for column, character in enumerate(CHARACTERS):
            page = Image.new("L", (256, 256))
            ImageDraw.Draw(page).text((64, 64), character, font=font, fill=255)
            ink = page.crop(page.getbbox()).resize((side, side), Image.Resampling.BOX)
            masks[row, column] = np.asarray(ink, dtype=np.float32) / 255
    return torch.from_numpy(masks)


def test_every_font_has_every_character():
    from matplotlib.ft2font import FT2Font

    for name in FONTS:
        charmap = FT2Font(str(font_path(name))).get_charmap()
        assert [character for character in CHARACTERS if ord(character) not in charmap] == [], name


def test_no_two_characters_share_an_outline():
    share, pair = overlap(glyph_masks(FONTS, CHARACTERS))
    assert share < 0.95, pair


def test_no_two_characters_share_an_outline_however_they_are_stretched():
    share, pair = overlap(stretched_masks())
    assert share < 0.95, pair


def drawn(labels, key=(0, 0, 0), **difficulty):
    masks = glyph_masks(FONTS, CHARACTERS)
    return draw_block(masks, (0, 1), np.asarray(labels), key, Difficulty(**difficulty))


def test_a_shorter_block_is_the_beginning_of_the_full_one():
    labels = np.arange(BLOCK) % 100
    assert torch.equal(drawn(labels[:7]), drawn(labels)[:7])
    assert not torch.equal(drawn(labels[:7]), drawn(labels[:7], (0, 0, 1)))


def test_without_any_difficulty_an_image_has_two_colours_and_soft_edges_only():
    off = dict.fromkeys(("texture", "gradient", "neighbour", "strokes", "blur", "noise", "chroma"), 0.0)
    for image in drawn([0, 1, 2], **off, contrast=(0.5, 0.5)):
        assert torch.equal(image[0], image[1])  # grey
        values, counts = image[0].unique(return_counts=True)
        assert 125 <= int(values.max()) - int(values.min()) <= 129
        paper = values[counts.argmax()]
        assert paper in (values.min(), values.max())
