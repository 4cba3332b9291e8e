from __future__ import annotations

from stillroom.run_names import PORTABLE, slug


def test_a_plain_name_stays_and_every_other_one_is_portable_and_distinct():
    assert slug("resnet8x4") == "resnet8x4"
    texts = ["kd(temperature=2)", "kd(temperature=3)", "a/b", "a_b", "é", "x" * 41, "x" * 42, "..", ""]
    names = [slug(text) for text in texts]
    assert len(set(names)) == len(texts)
    assert all(PORTABLE.fullmatch(name) for name in names)
