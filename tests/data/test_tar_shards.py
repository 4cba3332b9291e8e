import io
import json
import tarfile

import pytest

from stillroom.data import load_data, tar_shards
from stillroom.data.set_index import indexed
from stillroom.data.tar_shards import find_tars, list_tars
from stillroom.errors import InputError
from tests.data.image_files import png


def add(archive, name, content, **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shard(tmp_path, image):
    """Writes a shard of images with labels, and more members."""

    def make(name="train-000000.tar", labels=(0, 1, 0, 1), first=0, more=(), use_json=False):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for number, label in enumerate(labels, start=first):
                add(archive, f"set/{number:04}.png", png(image(number)))
                if label is not None:
                    content = json.dumps({"label": label}) if use_json else f"{label}\n"
                    add(archive, f"set/{number:04}.{'json' if use_json else 'cls'}", content.encode())
            for arguments in more:
                add(archive, *arguments[:2], **(arguments[2] if len(arguments) > 2 else {}))
        return tmp_path

    return make


@pytest.mark.parametrize("use_json", [False, True])
def test_shards_are_listed_with_labels_and_read_at_random(shard, image, use_json):
    shard(use_json=use_json)
    shard("train-000001.tar", labels=(1, 1), first=4, use_json=use_json)
    root = shard("val-000000.tar", labels=(0,), first=9, use_json=use_json)
    (root / "classes.txt").write_text("ant\nbee\n")
    train, val = list_tars(*find_tars(root))
    assert train.classes == val.classes == ("ant", "bee")
    assert train.labels.tolist() == [0, 1, 0, 1, 1, 1]
    assert train.names[4] == "train-000001.tar/set/0004.png"
    assert [train.store[place] for place in (5, 0)] == [png(image(5)), png(image(0))]
    assert [entry for chunk in train.chunks() for entry in chunk] == [png(image(number)) for number in range(6)]
    assert len(load_data(root).train) == 6


def test_classes_are_named_by_dataset_info_or_by_number(shard):
    root = shard("data/imagenet-train-000000.tar")
    assert list_tars(*find_tars(root))[0].classes == ("0", "1")
    info = {"features": {"image": {}, "label": {"names": ["ant", "bee"]}}}
    (root / "dataset_info.json").write_text(json.dumps(info))
    assert list_tars(*find_tars(root))[0].classes == ("ant", "bee")


def test_headers_are_read_once_until_the_shard_changes(shard, monkeypatch):
    root = shard()
    first, _ = list_tars(*find_tars(root))
    with monkeypatch.context() as patch:
        patch.setattr(tar_shards, "_read_headers", None)
        again, _ = list_tars(*find_tars(root))
    assert again.names == first.names
    assert again.store[3] == first.store[3]
    shard(labels=(0, 1))
    assert len(list_tars(*find_tars(root))[0].names) == 2
    with pytest.raises(InputError, match=r"train-000000\.tar has changed"):
        again.store[0]


def test_a_shard_is_indexed_once(shard, monkeypatch):
    listing, _ = list_tars(*find_tars(shard(more=[("set/9.png", b"text"), ("set/9.cls", b"1")])))
    found = indexed(listing)
    assert found.broken == (4,)
    assert found.reasons == ("not an image",)
    monkeypatch.setattr("stillroom.data.set_index.why_unreadable", None)
    assert indexed(listing).digests.tolist() == found.digests.tolist()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("../evil.png", b"x"), r"1 member with a path that leads out of the shard: \.\./evil\.png"),
        (("/etc/evil.png", b"x"), "with a path that leads out of the shard"),
        (("a.png", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}), "that is a link, a device"),
        (("a.png", b"", {"type": tarfile.LNKTYPE, "linkname": "set/0000.png"}), "that is a link, a device"),
        (("a.png", b"", {"type": tarfile.CHRTYPE}), "that is a link, a device"),
        (("set/0001.jpg", b"x"), r"with the key of an earlier image: set/0001\.jpg"),
        (("set/0001.cls", b"0"), "with another label than an earlier member"),
        (("a.png", b"x"), r"1 member without a label \(KEY\.cls or KEY\.json\): a\.png"),
        (("a.cls", b"cat"), "that is not an integer label"),
    ],
)
def test_members_that_cannot_be_trusted_are_refused(shard, member, words):
    with pytest.raises(InputError, match=words):
        load_data(shard(more=[member]))


@pytest.mark.parametrize("kept", [700, 1024, 4096, -10240])
def test_a_shard_cut_short_is_refused(shard, kept):
    root = shard()
    path = root / "train-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[: (8 * 1024 if kept < 0 else kept)])
    with pytest.raises(InputError, match=r"train-000000\.tar (is not a readable tar file, or )?was cut short"):
        load_data(root)


def test_joined_archives_are_refused(shard):
    root = shard()
    path = root / "train-000000.tar"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match="more behind its end, as joined archives have"):
        load_data(root)


def test_compressed_shards_are_refused(shard):
    root = shard("train-000000.tar.gz")
    with pytest.raises(InputError, match=r"compressed: train-000000\.tar\.gz; .*Decompress them"):
        load_data(root)


def test_labels_beyond_the_classes_are_refused(shard):
    root = shard(labels=(0, 1, 7))
    (root / "classes.txt").write_text("ant\nbee\n")
    with pytest.raises(InputError, match=r"beyond the 2 classes \(row 2: 7\)"):
        load_data(root)
