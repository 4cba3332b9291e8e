"""Settings of probes: what is carried out by default, and what is refused in one sentence."""

from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.probe.probe_options import NEEDS_SET, PROBES, ProbeOptions


def test_by_default_all_probes_run_that_have_their_sets():
    alone = [name for name in PROBES if name not in NEEDS_SET]
    assert ProbeOptions().chosen == alone
    assert set(ProbeOptions(on=["a"]).chosen) == {*alone, "transfer"}
    assert ProbeOptions(on=["a"], ood=["b"]).chosen == list(PROBES)
    assert ProbeOptions(what=["cost", "calibration"]).chosen == ["calibration", "cost"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"what": ["calibation"]}, "what=calibation: there is no such probe; did you mean calibration"),
        ({"what": ["zzz"]}, f"there are {', '.join(PROBES)}"),
        ({"what": ["transfer"]}, "what=transfer: name the set to measure it on, as in --on"),
        ({"what": ["ood"]}, "what=ood: name the set to measure it on, as in --ood"),
        ({"what": ["cost"], "on": ["a"]}, "on is for transfer, which is not among what=cost"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, problem):
    with pytest.raises(InputError, match=problem):
        _ = ProbeOptions(**options).chosen
