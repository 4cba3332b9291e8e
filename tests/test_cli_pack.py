"""``stillroom pack`` on the command line."""

import pytest
from PIL import Image

from stillroom.cli import main


@pytest.fixture
def image_set(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (20, 10), (number, 0, 0)).save(tmp_path / "set" / name / f"{number}.png")
    return tmp_path / "set"


def test_pack_and_check(tmp_path, image_set, capsys):
    packed = tmp_path / "packed"
    assert main(["pack", str(image_set), str(packed), "--size", "8", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("8 train images, 2 classes, 1 shard, ")
    assert out.endswith(f"\n{packed}\n")
    assert "train-00000-of-00001.arrow: 8 of 8 images" in err
    assert main(["pack", "--check", str(packed), "--jobs", "1"]) == 0
    assert "as the manifest says" in capsys.readouterr().out
    shard = packed / "train-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-9])
    assert main(["pack", "--check", str(packed), "--jobs", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "train-00000-of-00001.arrow has" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [(["SRC"], "give SRC and DEST"), (["--check", "A", "B"], "give one, the packed set"),
     (["SRC", "DEST", "--size", "4"], "size is 4"), (["SRC", "DEST", "--jobs", "0"], "jobs is 0")],
)  # fmt: skip
def test_words_that_cannot_be_used(words, message, capsys):
    assert main(["pack", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_broken_image_is_named(tmp_path, image_set, capsys):
    (image_set / "ant" / "1.png").write_bytes(b"text")
    words = ["pack", str(image_set), str(tmp_path / "packed"), "--jobs", "1"]
    assert main(words) == 2
    assert "ant/1.png (not an image)" in capsys.readouterr().err
    assert main([*words, "--skip_broken", "0.2"]) == 0
    assert "1 unreadable image left out" in capsys.readouterr().out
