from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.models import ResNet18_Weights

from stillroom.errors import InputError
from stillroom.teachers.class_matching import match_classes
from stillroom.teachers.class_names import imagenet_synsets

TINY = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-200-32px" / "wnids.txt"

SYNSETS = imagenet_synsets(1000)
WORDS = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]  # torchvision's names, in the same order
GOLDFISH, RETRIEVER = 1, 207


def candidates(teacher, data, class_count=None):
    match = match_classes(teacher, class_count or len(teacher), data)
    assert match is not None
    return match.candidates


def test_equal_names_are_matched_in_any_order():
    assert candidates(("a", "b", "c"), ("c", "a")) == ((2,), (0,))


def test_names_that_differ_in_case_only_are_told_apart_when_both_exist():
    assert candidates(("Cardigan", "cardigan"), ("cardigan", "Cardigan")) == ((1,), (0,))


def test_case_spaces_underscores_and_hyphens_do_not_matter():
    assert candidates(("Fire Truck", "ice_cream", "T-shirt"), ("fire_truck", "Ice  Cream", "t shirt")) == (
        (0,), (1,), (2,),
    )  # fmt: skip


@pytest.mark.parametrize("teacher", [SYNSETS, WORDS, None], ids=["WordNet ids", "names", "unnamed"])
@pytest.mark.parametrize(
    "data",
    [
        ("n02099601", "n01443537"),
        ("n02099601 golden retriever", "n01443537 goldfish"),
        ("golden_retriever", "Goldfish"),
        ("golden retriever", "Carassius auratus"),
    ],
)
def test_imagenet_is_matched_by_id_and_by_name(teacher, data):
    assert candidates(teacher, data, 1000) == ((RETRIEVER,), (GOLDFISH,))


def test_a_teacher_of_some_named_imagenet_classes_is_matched_by_id():
    assert candidates(("goldfish", "crane", "tench"), ("n01440764", "n01443537")) == ((2,), (0,))


def test_names_of_hugging_face_are_imagenet_in_order():
    from timm.data import ImageNetInfo

    names = ImageNetInfo().label_descriptions()  # "tench, Tinca tinca"; two are "crane"
    assert candidates(names, ("n02012849", "n03126707"), 1000) == ((134,), (517,))


@pytest.mark.skipif(not TINY.is_file(), reason="needs ../shared/data")
def test_all_of_tiny_imagenet_maps_onto_imagenet():
    wnids = TINY.read_text().split()
    found = candidates(WORDS, wnids, 1000)
    assert [SYNSETS[place] for (place,) in found] == wnids
    assert len(wnids) == 200


def test_imagenet_21k_lacks_one_class_of_imagenet_1k():
    found = candidates(imagenet_synsets(21843), SYNSETS, 21843)
    assert [SYNSETS[place] for place, one in enumerate(found) if not one] == ["n04399382"]


def test_a_parent_of_classes_is_not_guessed():
    assert candidates(SYNSETS, ("n02084071", "n01443537")) == ((), (GOLDFISH,))  # dog


def test_the_way_is_said():
    assert match_classes(("a", "b"), 2, ("b",)).by == "equal names"
    assert match_classes(SYNSETS, 1000, ("goldfish",)).by == "ImageNet name"
    assert match_classes(None, 1000, ("n01443537",)).by == (
        "WordNet id, assuming that its 1,000 outputs are ImageNet's classes in the usual order"
    )


def test_an_ambiguous_name_lists_its_candidates():
    with pytest.raises(
        InputError,
        match=r"the class crane of the data could be n02012849 \(crane: large long-necked.*\) or n03126707 \(crane: "
        r"lifts.*\); name the classes of the data by WordNet ids, or give class_map a CSV or YAML file",
    ):
        match_classes(SYNSETS, 1000, ("goldfish", "crane"))
    with pytest.raises(InputError, match="the class Ice Cream of the data could be ice_cream or ice-cream"):
        match_classes(("ice_cream", "ice-cream"), 2, ("Ice Cream",))


def test_two_classes_of_the_data_cannot_share_a_class_of_the_teacher():
    with pytest.raises(InputError, match="classes Cat and cat_ of the data both fit the teacher's CAT; give class_map"):
        match_classes(("CAT", "dog"), 2, ("Cat", "cat_", "dog"))


def test_no_match_is_none():
    assert match_classes(("a", "b"), 2, ("c",)) is None
    assert match_classes(None, 7, ("n01443537", "b")) is None
