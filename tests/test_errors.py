import pickle

import pytest

from stillroom.errors import Diverged, InputError, InUse, Stopped, did_you_mean, first_line


def test_bad_input_is_a_value_error_and_a_stop_is_neither():
    assert issubclass(InputError, ValueError)
    assert issubclass(InUse, InputError)
    for kind in (Diverged, Stopped):
        assert not issubclass(kind, ValueError)


def test_the_signal_is_kept():
    assert Stopped("stopped after step 3", 15).signal_number == 15


@pytest.mark.parametrize("error", [InputError("a"), InUse("b"), Diverged("c")])
def test_errors_come_back_from_another_process(error):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))


def test_similar_names_are_suggested():
    assert did_you_mean(["resnet20", "resnet32"]) == "; did you mean resnet20 or resnet32?"
    assert did_you_mean([], "; there are a, b") == "; there are a, b"
    assert did_you_mean([]) == ""


def test_the_first_line_of_an_error():
    assert first_line(ValueError("\n  wrong size \n more")) == "ValueError: wrong size"
    assert first_line(KeyError()) == "KeyError"
