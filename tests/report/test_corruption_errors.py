import pytest

from stillroom.report.corruption_errors import accuracy_of_kinds, mean_corruption_error, relative_corruption_error


def results(clean: float, **accuracy: list[float]) -> dict:
    return {"clean": clean, "severities": [1, 2], "accuracy": accuracy}


STUDENT = results(80, fog=[70, 50], snow=[60, 40])
REFERENCE = results(75, fog=[60, 40], snow=[50, 50])


def test_the_mean_corruption_error_is_that_of_a_hand_calculation():
    # fog: (30 + 50) / (40 + 60) = 0.8; snow: (40 + 60) / (50 + 50) = 1.0
    assert mean_corruption_error(STUDENT, REFERENCE) == pytest.approx(90)
    assert mean_corruption_error(REFERENCE, REFERENCE) == pytest.approx(100)


def test_the_relative_error_is_that_of_a_hand_calculation():
    # fog: (40 - 20) / (50 - 25) = 0.8; snow: (50 - 20) / (50 - 25) = 1.2
    assert relative_corruption_error(STUDENT, REFERENCE) == pytest.approx(100)


@pytest.mark.parametrize(
    "reference",
    [None, results(75, fog=[60, 40]), STUDENT | {"severities": [1, 3]}, results(100, fog=[100, 100], snow=[1, 1])],
)
def test_there_is_no_error_without_a_reference_of_the_same_kind(reference):
    assert mean_corruption_error(STUDENT, reference) is None


def test_there_is_no_relative_error_where_the_reference_loses_nothing():
    steady = results(50, fog=[50, 50], snow=[10, 10])
    assert relative_corruption_error(STUDENT, steady) is None
    assert mean_corruption_error(STUDENT, steady) is not None


def test_the_accuracy_of_a_group_is_a_mean_over_its_kinds():
    assert accuracy_of_kinds(STUDENT, ("fog", "snow")) == pytest.approx(55)
    assert accuracy_of_kinds(STUDENT, ("fog", "frost")) is None
