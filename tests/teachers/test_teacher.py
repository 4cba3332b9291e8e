from stillroom.batch import Batch, Output
from stillroom.input_format import InputFormat
from stillroom.teachers.teacher import OFFERS, Teacher


class Whole:
    classes, class_count, offers, identity, bank_seconds = None, 3, "logits", "x", 0.0
    input_format = InputFormat((0.5,), (0.5,))

    def predict(self, batch: Batch) -> Output: ...

    def close(self) -> None: ...


def test_a_class_with_all_parts_is_a_teacher() -> None:
    assert isinstance(Whole(), Teacher)


def test_an_object_without_predict_is_none() -> None:
    assert not isinstance(object(), Teacher)


def test_what_teachers_offer_is_ordered_from_most_to_least() -> None:
    assert OFFERS[0] == "logits"
    assert OFFERS[-1] == "labels"
