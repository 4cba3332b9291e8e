import pytest
import torch

from stillroom.data.scene_drawing import CLASSES
from stillroom.data.scenes import scene_count, scenes, validation_count
from stillroom.errors import InputError


def digest(*sources):
    return [source.fingerprint for source in sources]


def test_scenes_are_a_set_with_boxes(tmp_path):
    train, val = scenes(0, 6, 2, 64, cache=tmp_path)
    assert (len(train), len(val), train.shape, train.max_size) == (6, 2, (3, 64, 64), 106)
    assert train.classes == val.classes == CLASSES
    assert train.sizes.tolist() == [[64, 64]] * 6
    assert train.pixels(torch.arange(6)).shape == (6, 3, 64, 64)
    assert not torch.isin(train.content(), val.content()).any()
    assert all(found.size == (64, 64) and len(found) and not found.crowd.any() for found in train.objects)


def test_the_same_seed_draws_the_same_scenes_and_fewer_are_the_beginning_of_more(tmp_path):
    train, val = scenes(0, 6, 2, 64, cache=tmp_path / "one")
    again = scenes(0, 6, 2, 64, cache=tmp_path / "two")
    assert digest(train, val) == digest(*again)
    few, _ = scenes(0, 3, 1, 64, cache=tmp_path)
    assert few.fingerprint == train.at(torch.arange(3)).fingerprint
    other, _ = scenes(1, 3, 1, 64, cache=tmp_path)
    assert other.fingerprint != few.fingerprint
    assert torch.equal(few.pixels(torch.arange(3)), train.pixels(torch.arange(3)))


def test_the_set_stays_as_it_is(tmp_path):
    """A change of these numbers changes published results: raise VERSION and say so."""
    train, _ = scenes(0, 3, 1, cache=tmp_path)
    assert [len(found) for found in train.objects] == [3, 4, 8]
    assert "".join(CLASSES[label][0] for label in train.object_labels().tolist()) == "CRId8tB0t0i1tGO"


def test_the_cache_is_used_and_damage_is_repaired(tmp_path, caplog):
    first = digest(*scenes(0, 3, 1, 32, cache=tmp_path))
    (stored,) = tmp_path.iterdir()
    written = stored.stat().st_mtime_ns
    assert digest(*scenes(0, 3, 1, 32, cache=tmp_path)) == first
    assert stored.stat().st_mtime_ns == written
    whole = stored.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        stored.write_bytes(damaged)
        assert digest(*scenes(0, 3, 1, 32, cache=tmp_path)) == first
        assert stored.stat().st_size == len(whole)
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((-1,), "seed is -1"), ((0, 0), "train_count is 0"), ((0, 1, 0), "val_count is 0"), ((0, 1, 1, 8), "image_size")],
)
def test_sets_that_cannot_be_drawn_are_refused(arguments, problem, tmp_path):
    with pytest.raises(InputError, match=problem):
        scenes(*arguments, cache=tmp_path)


def test_a_name_may_say_the_number_of_scenes():
    assert (scene_count("scenes"), scene_count("scenes:50"), scene_count("glyphs100")) == (2000, 50, None)
    assert (validation_count(2000), validation_count(3)) == (400, 1)
    for name in ("scenes:", "scenes:0", "scenes:-5", "scenes:many", "scenes:²"):
        with pytest.raises(InputError, match="such as scenes:500"):
            scene_count(name)
