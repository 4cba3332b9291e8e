"""The record of probes: one result at a time, nothing lost, and clear words for a file that is none."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from stillroom.errors import InputError
from stillroom.report import probe_record
from stillroom.report.probe_record import NAME, ProbeResult, read_probes, write_probe


def test_results_are_added_and_replaced_one_at_a_time(tmp_path):
    path = tmp_path / NAME
    assert read_probes(path) == {}
    first, second = ProbeResult({"seed": 0}, {"a": 1.5, "bins": [None, 2]}), ProbeResult({}, {"b": "text"})
    write_probe(path, "ood", "cifar10", first)
    write_probe(path, "ood", "svhn", second)
    write_probe(path, "cost", "cpu", second)
    write_probe(path, "ood", "svhn", first)
    assert read_probes(path) == {"ood": {"cifar10": first, "svhn": first}, "cost": {"cpu": second}}
    assert [file.name for file in tmp_path.iterdir()] == [NAME]


def test_a_number_that_is_not_finite_is_refused_by_name_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="ood on x: auroc is not finite"):
        write_probe(tmp_path / NAME, "ood", "x", ProbeResult({}, {"energy": {"auroc": [1.0, float("nan")]}}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["{", "[]", '{"ood": 1}', '{"ood": {"x": {"of": {}}}}', '{"a": 1, "a": 2}'])
def test_a_file_that_is_no_record_is_named(content, tmp_path):
    path = tmp_path / NAME
    path.write_text(content)
    with pytest.raises(InputError, match=r"probes\.json.*remove it and run `stillroom probe` again"):
        read_probes(path)
    with pytest.raises(InputError, match=r"probes\.json"):
        write_probe(path, "ood", "x", ProbeResult({}, {}))
    assert path.read_text() == content


def test_results_that_are_written_at_the_same_time_are_all_kept(tmp_path, monkeypatch):
    def slowly(path):
        found = read_probes(path)
        time.sleep(0.02)
        return found

    monkeypatch.setattr(probe_record, "read_probes", slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: write_probe(tmp_path / NAME, "ood", f"set {n}", ProbeResult({}, {"n": n})), range(8)))
    assert {one.results["n"] for one in read_probes(tmp_path / NAME)["ood"].values()} == set(range(8))
    assert [file.name for file in tmp_path.iterdir()] == [NAME]
