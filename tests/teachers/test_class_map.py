from __future__ import annotations

import pickle

import pytest
import torch
from torch.nn import functional as F

from stillroom.errors import InputError
from stillroom.teachers.class_map import ClassMap, make_class_map
from stillroom.teachers.class_names import imagenet_synsets


def some_logits(classes, rows=4):
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(1)) * 5


def test_one_class_for_one_is_a_selection_bit_for_bit():
    logits = some_logits(5)
    mapped = ClassMap((2, -1, 0, -1, 1), 3).apply(logits)
    assert torch.equal(mapped, logits[:, [2, 4, 0]])
    assert mapped.dtype == torch.float32


def test_the_identity_changes_nothing():
    logits = some_logits(3)
    identity = ClassMap((0, 1, 2), 3)
    assert torch.equal(identity.apply(logits), logits)
    assert identity.describe() == []
    assert identity.identity == ""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_probabilities_of_several_teacher_classes_are_added(dtype):
    """Groups of 1, 2, 3 and 5 classes, against a loop over probabilities."""
    index = (3, 0, 1, 1, 3, 2, 2, 3, -1, 2, 3, 3)
    logits = some_logits(len(index)).to(dtype)
    probabilities = logits.double().softmax(1)
    expected = torch.zeros(len(logits), 4, dtype=torch.float64)
    for teacher_class, place in enumerate(index):
        if place >= 0:
            expected[:, place] += probabilities[:, teacher_class]
    expected /= expected.sum(1, keepdim=True)  # what the dropped class had is spread in proportion
    mapped = ClassMap(index, 4).apply(logits)
    assert mapped.dtype == torch.float32
    torch.testing.assert_close(mapped.double().softmax(1), expected, rtol=1e-5, atol=1e-7)


def test_large_groups_are_exact():
    """21,000 classes in two: the index tensors stay small."""
    logits = some_logits(21_000, rows=2)
    mapped = ClassMap((0,) * 20_999 + (1,), 2).apply(logits)
    torch.testing.assert_close(mapped, torch.stack([logits[:, :-1].logsumexp(1), logits[:, -1]], 1))


def test_a_probability_of_zero_adds_nothing():
    logits = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0], [-torch.inf, 1.0, 0.5, -torch.inf]])
    mapped = ClassMap((0, 0, 1, 1), 2).apply(logits)
    assert torch.equal(mapped, torch.tensor([[1.0, 2.0], [1.0, 0.5]]))


def test_an_unmapped_class_gets_the_smallest_mapped_logit_of_each_image():
    logits = torch.tensor([[3.0, 1.0, 9.0, -7.0], [0.0, 4.0, 9.0, -7.0], [-torch.inf, 4.0, 9.0, -7.0]])
    mapped = ClassMap((2, 0, -1, -1), 4, "lowest").apply(logits)
    assert torch.equal(mapped, torch.tensor([[1.0, 1.0, 3.0, 1.0], [4.0, 0.0, 0.0, 0.0], [4.0, 4.0, -torch.inf, 4.0]]))
    assert F.kl_div(mapped[:2].log_softmax(1), mapped[:2].roll(1, 0).softmax(1), reduction="batchmean").isfinite()


def test_labels_are_mapped_by_index():
    labels = ClassMap((2, -1, 0, 1), 3).label_map(torch.tensor([0, 1, 2, 3, 0]))
    assert labels.tolist() == [2, -1, 0, 1, 2]


def test_a_map_without_an_empty_class_is_required():
    with pytest.raises(
        InputError,
        match="class_map: 2 of the 4 classes of the data have no class of the teacher: 1, 3; give class_map a CSV or "
        "YAML file with two columns, teacher and data, or unmapped=lowest, which gives such a class the smallest",
    ):
        ClassMap((2, 0), 4)
    with pytest.raises(InputError, match="2 of the 2 classes of the data have no class of the teacher"):
        ClassMap((-1, -1), 2, "lowest")
    with pytest.raises(InputError, match="index 4; give -1 or an index below 4"):
        ClassMap((4, 0), 4)


def test_the_identity_text_tells_maps_apart():
    maps = [ClassMap((0, 1, -1), 2), ClassMap((1, 0, -1), 2), ClassMap((0, 1, -1), 3, "lowest"), ClassMap((0, 1), 2)]
    assert len({one.identity for one in maps}) == len(maps)
    assert ClassMap((1, 0), 2, by="a").identity == ClassMap((1, 0), 2, "lowest", by="b").identity


def test_a_used_map_can_be_sent_to_another_process():
    one = ClassMap((1, 0, 1), 2)
    one.apply(some_logits(3))
    assert pickle.loads(pickle.dumps(one)) == one


def test_equal_classes_need_no_map():
    for how in ("auto", "none"):
        assert make_class_map(("a", "b"), 2, ("a", "b"), how).is_identity
    assert make_class_map(None, 2, ("a", "b")).is_identity


def test_another_order_is_mapped_by_name_and_kept_on_request():
    assert make_class_map(("b", "a"), 2, ("a", "b")).index == (1, 0)
    assert make_class_map(("b", "a"), 2, ("a", "b"), "none").is_identity


def test_the_user_is_told_what_was_mapped():
    lines = make_class_map(
        imagenet_synsets(1000), 1000, ("goldfish", "axolotl", "tench", "tabby", "own"), unmapped="lowest"
    ).describe()
    assert lines == [
        "class map: 4 classes of the data from 4 of the teacher's 1,000, by ImageNet name: n01440764 -> tench; "
        "n01443537 -> goldfish; n01632777 -> axolotl; …",
        "class map: 996 classes of the teacher not used",
        "class map: 1 class of the data without a teacher class: own; the logit is the smallest mapped one of each "
        "image",
    ]


def test_the_user_is_told_of_sums_and_of_the_file(tmp_path):
    (tmp_path / "map.yaml").write_text("pet: [cat, dog]\ncar: [car]\n")
    lines = make_class_map(("cat", "dog", "car"), 3, ("car", "pet"), str(tmp_path / "map.yaml")).describe()
    assert lines[0].startswith("class map: 2 classes of the data from 3 of the teacher's 3, by the file ")
    assert lines[0].endswith("map.yaml: cat -> pet; dog -> pet; car -> car")
    assert lines[1:] == ["class map: 1 class of the data from several teacher classes each"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (("a", "b"), 2, ("c", "d")),
            r"class_map=auto: no class of the data \(c, d\) is a class of the teacher \(a, b\) by name or WordNet id; "
            "give class_map a CSV or YAML file .*, or class_map=none if both have the same classes in the same order",
        ),
        (
            (None, 3, ("c", "d")),
            "class_map=auto: the teacher has 3 classes and the data 2, so their order says nothing; name the teacher's "
            "classes with teacher_classes, or give class_map a CSV",
        ),
        ((("a", "b", "c"), 3, ("a", "b"), "none"), "class_map=none: the teacher has 3 classes and the data 2"),
        (
            (("a",), 3, ("a", "b")),
            "teacher_classes: 1 name for a teacher with 3 classes; give one name for each, in the order of the logits",
        ),
        (
            (("a", "b"), 2, ("b", "own", "a")),
            "1 of the 3 classes of the data have no class of the teacher: own; give class_map",
        ),
        ((("a", "b"), 2, ("b", "a"), "atuo"), "class_map=atuo: give auto, none, or the path of a .csv"),
    ],
)
def test_classes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_class_map(*arguments)
