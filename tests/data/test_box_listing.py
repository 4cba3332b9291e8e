import math
import threading

import numpy as np
import pytest

from stillroom.data.box_listing import BoxListing, Objects, checked_objects, finite_edges, in_threads, told


def listing(boxes, names=("a", "b"), relative=False):
    objects = Objects()
    for number, (owner, *edges) in enumerate(boxes):
        objects.add(owner, edges, number, False, number + 1)
    return BoxListing("here", names, ("ant",) * len(boxes), objects, "line", relative=relative)


SIZES = np.array([[20, 10], [40, 30]])
BOTH = np.array([True, True])


def test_objects_are_grouped_by_image_in_their_order():
    found = checked_objects(listing([(1, 0, 0, 5, 5), (0, 1, 1, 2, 2), (1, 3, 3, 9, 9)]), SIZES, BOTH)
    assert [one.labels.tolist() for one in found.objects] == [[1], [0, 2]]
    assert found.objects[1].boxes.tolist() == [[0, 0, 5, 5], [3, 3, 9, 9]]
    assert [one.size for one in found.objects] == [(20, 10), (40, 30)]
    assert (found.problem, found.faulty, found.clipped) == ("", 0, 0)


def test_fractions_become_pixels():
    found = checked_objects(listing([(0, 0.1, 0.1, 0.5, 1.0)], relative=True), SIZES, BOTH)
    assert found.objects[0].boxes.tolist() == [[1, 2, 5, 20]]


@pytest.mark.parametrize(
    ("edges", "problem"),
    [
        ((0, 0, 11.01, 5), "outside of its image"),
        ((-1.5, 0, 5, 5), "outside of its image"),
        ((12, 0, 15, 5), "outside of its image"),
        ((10, 0, 10.9, 5), "without area"),  # nothing is left of it when it is clipped
        ((5, 5, 5, 9), "without area"),
        ((6, 5, 5, 9), "without area"),
        ((0, 0, math.inf, 5), "not four finite numbers"),
        ((0, math.nan, 5, 5), "not four finite numbers"),
    ],
)
def test_a_faulty_box_is_left_out_and_told(edges, problem):
    found = checked_objects(listing([(0, *edges), (0, 1, 1, 2, 2)]), SIZES, BOTH)
    assert problem in found.problem
    assert "a line 1 (x " in found.problem
    assert found.faulty == 1
    assert found.objects[0].labels.tolist() == [1]
    # Nothing is said about boxes in an image that cannot be read.
    assert checked_objects(listing([(0, *edges)]), SIZES, np.array([False, True])).problem == ""


def test_an_overhang_of_a_pixel_is_clipped():
    found = checked_objects(listing([(0, -1, 0, 11, 21), (0, 0, 0, 10.0001, 20)]), SIZES, BOTH)
    assert found.objects[0].boxes.tolist() == [[0, 0, 10, 20]] * 2
    assert (found.faulty, found.clipped) == (0, 1)


def test_only_lists_of_numbers_are_edges():
    assert finite_edges([1, 2.5, 3, 4]) == (1.0, 2.5, 3.0, 4.0)
    for values in (None, "1234", [1, 2, 3], (1, 2, 3, 4), [1, 2, 3, 10**400]):
        assert finite_edges(values) is None
    assert math.isnan(finite_edges([1, 2, 3, "4"])[3])


def test_threads_keep_the_order_and_pass_errors_on():
    assert list(in_threads(lambda number: number * 2, range(300))) == [2 * number for number in range(300)]
    names = set(in_threads(lambda _: threading.current_thread().name, range(3)))
    assert threading.main_thread().name not in names

    def fail(number):
        raise OSError(number)

    with pytest.raises(OSError, match="0"):
        list(in_threads(fail, range(300)))


def test_problems_are_counted():
    assert told([], "file", "gone", "add it") == ""
    assert told(list("abcd"), "file", "gone", "add them") == "4 files gone: a, b, c and 1 more; add them"
