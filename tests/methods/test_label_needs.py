import pytest

from stillroom.errors import InputError
from stillroom.methods import parse_method
from stillroom.methods.label_needs import refuse_mixing, refuse_unlabelled, trains_classifier


@pytest.mark.parametrize(
    ("method", "with_labels", "without"),
    [("rkd", True, False), ("0*ce + rkd", False, False), ("0*ce + kd", True, True), ("simkd", True, True)],
)
def test_what_trains_the_classifier(method, with_labels, without):
    made = parse_method(method)
    assert trains_classifier(made, labels=True) == with_labels
    assert trains_classifier(made, labels=False) == without


@pytest.mark.parametrize("method", ["kd", "ldrld(depth=2)", "dist", "rkd", "0*ce + fitnet"])
def test_losses_without_labels_take_any_images_until_one_that_reads_labels_is_added(method):
    refuse_unlabelled(parse_method(method), 5, 5)
    with pytest.raises(InputError, match=r"^method='.*': nkd reads the labels"):
        refuse_unlabelled(parse_method(f"{method} + nkd"), 1, 5)


@pytest.mark.parametrize("method", ["dkd", "nkd", "crd", "wsld", "ce + sdd(dkd)"])
def test_losses_that_read_labels_are_refused_from_the_first_image_without_one(method):
    refuse_unlabelled(parse_method(method), 0, 5)
    with pytest.raises(InputError, match=r"reads the labels.* 1 of 5 training images have none"):
        refuse_unlabelled(parse_method(method), 1, 5)


def test_the_cross_entropy_alone_needs_a_label():
    refuse_unlabelled(parse_method("ce"), 4, 5)
    with pytest.raises(InputError, match="learns from labels only, and no training image has one"):
        refuse_unlabelled(parse_method("ce"), 5, 5)


@pytest.mark.parametrize(
    "method",
    [
        "ce",
        "kd",
        "dkd",
        "nkd",
        "standardized(dkd)",
        "swap",
        "rld",
        "rc",
        "standardized(wsld)",
        "sdd(kd)",
        "0.1*mlkd",
        "rkd",
        "itrd",
        "embed_queue",
    ],
)
def test_losses_without_labels_or_with_rows_take_mixed_images_until_one_that_needs_one_label_is_added(method):
    refuse_mixing(parse_method(method), "mixup=0.2")
    with pytest.raises(InputError, match=r"^method='.*': uskd reads one label"):
        refuse_mixing(parse_method(f"{method} + uskd"), "mixup=0.2")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("revision", "revision reads one label of each image and has no rows"),
        ("ce + standardized(gkl)", "standardized_gkl reads one label"),
        ("uskd", "uskd reads one label"),
        ("crd", "crd remembers each image by its sample id"),
    ],
)
def test_losses_that_need_one_label_are_refused_with_mixed_images(method, words):
    with pytest.raises(InputError, match=f"{words}.*; with mixup=0.2 an image shows two classes"):
        refuse_mixing(parse_method(method), "mixup=0.2")
