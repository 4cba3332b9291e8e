from __future__ import annotations

from dataclasses import replace

import torch

from stillroom.data import Augment, ImageSet
from stillroom.engine.bank_key import bank_key, picture_fingerprint


def test_pictures_and_ids_are_in_the_fingerprint():
    images = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(6).long(), torch.arange(6), ("a", "b"))
    pixel, ids = images.clone(), torch.arange(6)
    pixel[5, 2, 3, 3] ^= 1
    ids[5] = 9
    others = [replace(data, images=pixel), replace(data, ids=ids), replace(data, images=images.view(6, 3, 2, 8))]
    prints = {picture_fingerprint(one) for one in (data, *others)} | {picture_fingerprint(data, data)}
    assert len(prints) == 5
    assert picture_fingerprint(replace(data, images=images.clone(), ids=torch.arange(6))) == picture_fingerprint(data)
    assert picture_fingerprint(replace(data, labels=torch.ones(6).long())) == picture_fingerprint(data)


def test_everything_that_decides_the_logits_is_in_the_key(tiny_data):
    given = {"teacher": "t", "pictures": "p", "seed": 1, "precision": "32"}
    key = bank_key(tiny_data, **given)
    assert bank_key(tiny_data, **given).digest == key.digest
    others = [
        *(
            bank_key(tiny_data, **given | change)
            for change in ({"teacher": "u"}, {"pictures": "q"}, {"seed": 2}, {"precision": "bf16"})
        ),
        *(
            bank_key(replace(tiny_data, **change), **given)
            for change in ({"augment": Augment(pad=2)}, {"mean": (0.5, 0.5, 0.4)}, {"std": (0.2,) * 3})
        ),
    ]
    assert len({key.digest, *(other.digest for other in others)}) == 8
