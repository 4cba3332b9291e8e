"""Files from elsewhere: what would block, grow or never end is refused in one line that names the file."""

from __future__ import annotations

import os
import time

import pytest

from stillroom.config import make_recipe
from stillroom.engine.run_folder import RunFolder
from stillroom.reading import (
    EXPANDED,
    XML_BYTES,
    YAML_BYTES,
    UnreadableError,
    read_json,
    read_json_lines,
    read_text,
    read_xml,
    read_yaml,
)
from stillroom.recipes import load_published
from stillroom.report.comparison_file import read_description
from stillroom.report.tuning_file import read_tuning
from tests.test_trust import calls


def laughs(levels: int, width: int) -> str:
    """A list of lists of lists ... of which each level names the one before ``width`` times."""
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (laughs(30, 10), "aliases expanded"),
        ("m0: &m0 {k: 1}\n" + "\n".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 20)),
         "aliases expanded"),
        (f"a: &a {'x' * 5000}\nb: [{', '.join(['*a'] * 5000)}]", "aliases expanded"),
        ("a: &a [*a]", "contains itself"),
        ("lr: 1\nepochs: 2\nlr: 3", "lr is there twice, line 3"),
        ("[" * 600, "nested too deeply"),
        ("x" * (YAML_BYTES + 1), "more than"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: [", "expected the node content"),
        ("? [a]\n: b", "unhashable"),
        ("a: " + "9" * 5000, "4300 digits"),
    ],
    ids=["lists", "merges", "text", "cycle", "twice", "deep", "large", "code", "cut", "key", "number"],
)  # fmt: skip
def test_yaml_that_grows_or_runs_is_refused(content, problem, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(UnreadableError, match=problem) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path} cannot be read (")
    assert "\n" not in str(caught.value)


def test_honest_yaml_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("mean: &m [0.5, 0.25]\nstd: *m\nbase: &b {lr: 1, name: x}\nown: {<<: *b, lr: 2}\nempty:\n")
    assert read_yaml(path) == {
        "mean": [0.5, 0.25], "std": [0.5, 0.25], "base": {"lr": 1, "name": "x"}, "own": {"lr": 2, "name": "x"},
        "empty": None,
    }  # fmt: skip
    path.write_text(laughs(3, 10))
    assert len(str(read_yaml(path))) < EXPANDED
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [('{"a": 1, "a": 2}', "a is there twice"), ("[" * 100_000, "deeply"), ("{", "Expecting"), ("\0", "Expecting")],
)
def test_json_that_says_two_things_or_nothing_is_refused(content, problem, tmp_path):
    path = tmp_path / "inputs.json"
    path.write_text(content)
    for read in (read_json, read_json_lines):
        with pytest.raises(UnreadableError, match=problem):
            read(path)


def test_names_that_are_not_needed_are_left_out_wherever_they_are(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text('{"a": [{"big": [1, 2], "id": 3}], "big": 4}')
    assert read_json(path, without=("big",)) == {"a": [{"id": 3}]}
    with pytest.raises(UnreadableError, match="more than 10 bytes"):
        read_json(path, most=10)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "document type"),
        (b"<a>&b;</a>", "undefined entity"),
        (b"<a>", "no element found"),
        (b"\xff\xfe<\0a\0/\0>\0", "utf-8"),
        (b"<a>" + b" " * XML_BYTES + b"</a>", "more than"),
    ],
    ids=["entity", "outside", "undefined", "cut", "utf-16", "large"],
)
def test_xml_that_names_files_or_grows_is_refused(content, problem, tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=problem):
        read_xml(path)
    path.write_text('<?xml version="1.0" encoding="latin-1"?><a><b>ä</b></a>')
    assert read_xml(path).findtext("b") == "ä"


def test_numbers_that_are_none_survive(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"loss": NaN}\n{"loss": 1.5}\n')
    rows = read_json_lines(tmp_path / "metrics.jsonl")
    assert (str(rows[0]["loss"]), rows[1]["loss"]) == ("nan", 1.5)


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        begin = time.monotonic()
        with pytest.raises(UnreadableError, match=rf"{name} cannot be read \(it is not a regular file\)"):
            read_text(tmp_path / name)
        assert time.monotonic() - begin < 10  # else it would wait for ever
    with pytest.raises(UnreadableError, match="ordinary"):
        read_text(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none")


def test_every_yaml_of_ours_comes_through_this_door(tmp_path):
    bomb = laughs(30, 10)
    for name in ("config.yaml", "comparison.yaml", "tuning.yaml"):
        (tmp_path / name).write_text(bomb)
    for read in (
        RunFolder(tmp_path).config,
        lambda: read_description(tmp_path),
        lambda: read_tuning(tmp_path),
        lambda: load_published(tmp_path / "config.yaml"),
    ):
        with pytest.raises(UnreadableError, match="aliases"):
            read()
    # A folder of a broken run as a model: its learning rate cannot be looked up, and that is told when it is used.
    assert make_recipe("train", {"model": str(tmp_path), "data": "glyphs100"}).optim.lr is not None


def test_no_other_part_reads_files_on_its_own():
    """Every reader of YAML, JSON and tensors in the package, and why it needs no door."""
    readers = ("safe_load", "load_all", "SafeLoader", "loads", "safe_open", "load_file", "Unpickler", "read_table")
    found = {(place.partition(":")[0], name) for place, name, _ in calls(*readers)}
    found |= {
        (place.partition(":")[0], name)
        for place, name, _ in calls("load")
        if name.startswith(("torch.", "np.", "json.", "pickle."))
    }
    assert found == {
        ("reading.py", "yaml.SafeLoader"),  # the door
        ("reading.py", "json.loads"),  # the door
        ("weight_files.py", "safe_open"),  # tensors
        ("weight_files.py", "torch.load"),  # the same
        ("bank_key.py", "json.loads"),  # what was just written
        ("image_table.py", "json.loads"),  # text in the header of a Parquet file, whose size its reader checks
        ("inference_client.py", "json.loads"),  # a server's response, no file
        ("inference_protocol.py", "json.loads"),  # the same
        ("channel_statistics.py", "np.load"),  # Stillroom's own cache
        ("image_sizes.py", "np.load"),  # the same
        ("official_c.py", "np.load"),  # arrays, without pickled objects
        ("glyphs.py", "np.load"),  # the same
        ("scenes.py", "np.load"),  # the same
        ("set_index.py", "np.load"),  # the same
        ("tar_shards.py", "np.load"),  # the same
    }
