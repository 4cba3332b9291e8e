from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.methods import parse_method
from stillroom.methods.method_text import Call, read_summands, write_summands


@pytest.mark.parametrize(
    "text",
    [
        "ldrld",
        "0.1*ce + 0.9*kd(temperature=4)",
        "0.1*ce + 9*standardized(kd(temperature=2.5))",
        "kd + dkd(beta=2, warmup=20)",
        "ce + 0.5*sdd(kd, grids=(1, 2), weight=1e-05)",
        "ldrld(depth=5, average=false, backend='torch')",
    ],
)
def test_what_is_read_is_written_as_it_was(text):
    assert write_summands(read_summands(text)) == text
    parse_method(text)


def test_a_changed_value_is_written_in_its_place():
    first, second = read_summands("0.1*ce + 9*standardized(kd(temperature=2))")
    assert second.call.inner == Call("kd", {"temperature": 2})
    second.weight, second.call.inner.arguments["temperature"] = 4.5, 0.02371
    assert write_summands([first, second]) == "0.1*ce + 4.5*standardized(kd(temperature=0.02371))"


@pytest.mark.parametrize("text", ["kd +", "kd, dkd", "standardized(kd, dkd)"])
def test_what_is_no_sum_is_refused(text):
    with pytest.raises(InputError, match="method="):
        read_summands(text)
