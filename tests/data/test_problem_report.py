import pytest

from stillroom.data.problem_report import ProblemReport, check_broken
from stillroom.errors import InputError


def test_broken_are_counted_and_the_first_named():
    names = [f"{number}.png" for number in range(5)]
    with pytest.raises(InputError, match=r"5 of 100 .*: 0\.png, 1\.png, 2\.png and 2 more; .*skip_broken=0\.05"):
        check_broken(names, 100, 0.04)
    with pytest.raises(InputError, match=r"5 of 5 [^;]*; repair or remove them$"):
        check_broken(names, 5, 0.5)  # to skip all of them is no way out
    check_broken(names, 100, 0.05)
    check_broken([], 100, 0.0)


def test_one_problem_is_reported_with_the_place_and_several_are_numbered():
    report = ProblemReport("photos", ["no images"])
    with pytest.raises(InputError, match=r"^photos: no images$"):
        report.close()
    with report.catching():
        raise InputError("two sizes")
    report.add("")
    with pytest.raises(InputError, match=r"^photos has 2 problems: \(1\) no images; \(2\) two sizes$"):
        report.close()


def test_a_place_that_the_message_names_is_not_repeated():
    with pytest.raises(InputError, match=r"^photos/ant is empty$"):
        ProblemReport("photos", ["photos/ant is empty"]).close()


def test_without_problems_closing_raises_nothing_and_other_errors_pass():
    report = ProblemReport("photos")
    report.close()
    with pytest.raises(KeyError), report.catching():
        raise KeyError("a bug is no problem of the set")
