from __future__ import annotations

from dataclasses import replace

from stillroom.data import Augment
from stillroom.input_format import InputFormat
from stillroom.teachers.bank_key import bank_key

FORMAT = InputFormat((0.5,) * 3, (0.25,) * 3)


def test_everything_that_decides_the_logits_is_in_the_key(tiny_data):
    given = {"teacher": "t", "input_format": FORMAT, "images": "p", "seed": 1, "precision": "32", "bits": 16}
    key = bank_key(tiny_data, **given)
    assert bank_key(tiny_data, **given).digest == key.digest
    others = [
        *(
            bank_key(tiny_data, **given | change)
            for change in (
                {"teacher": "u"},
                {"images": "q"},
                {"seed": 2},
                {"precision": "bf16"},
                {"bits": 8},
                {"input_format": replace(FORMAT, size=(9, 9))},
            )
        ),
        *(bank_key(replace(tiny_data, **change), **given) for change in ({"augment": Augment(pad=2)},)),
    ]
    assert len({key.digest, *(other.digest for other in others)}) == 8


def test_mixing_is_in_the_key_only_where_it_is_on(tiny_data):
    given = {"teacher": "t", "input_format": FORMAT, "images": "p", "seed": 1, "precision": "32", "bits": 16}

    def key(**mixing):
        return bank_key(replace(tiny_data, augment=Augment(pad=2, **mixing)), **given)

    assert key().augment.keys().isdisjoint({"mixup", "cutmix", "mix_probability"})  # banks of older versions are found
    assert key(mix_probability=0.5).digest == key().digest
    mixed = [key(mixup=0.2), key(mixup=0.4), key(cutmix=0.2), key(mixup=0.2, mix_probability=0.5)]
    assert len({one.digest for one in [key(), *mixed]}) == 5
