from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.io import savemat

from stillroom.data.matlab_file import read_matlab
from stillroom.errors import InputError


def test_variables_come_without_axes_of_length_one(tmp_path):
    savemat(tmp_path / "t.mat", {"labels": np.array([[1], [2]]), "names": np.array([["a"], ["bc"]], dtype=object)})
    found = read_matlab(tmp_path / "t.mat")
    assert found["labels"].tolist() == [1, 2]
    assert found["names"].tolist() == ["a", "bc"]


def test_a_damaged_file_and_missing_scipy_are_named(tmp_path, monkeypatch):
    (tmp_path / "t.mat").write_bytes(b"no matlab")
    with pytest.raises(InputError, match=r"t\.mat cannot be read \(.*\); unpack the set again"):
        read_matlab(tmp_path / "t.mat")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(InputError, match=r"t\.mat is a Matlab file, which needs scipy: pip install scipy; or write it"):
        read_matlab(tmp_path / "t.mat", "write it")
