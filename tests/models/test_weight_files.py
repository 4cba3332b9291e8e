import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stillroom.errors import InputError
from stillroom.models import read_checkpoint
from stillroom.models.weight_files import read_safetensors, read_state, read_torch


class Payload:
    """Unpickled by an ordinary loader, it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def _poison(path, payload, how):
    if how == "zip":
        torch.save({"model": {"weight": torch.zeros(1)}, "best_acc": payload}, path)
    elif how == "legacy":
        torch.save(payload, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(payload, protocol=int(how)))


@pytest.mark.parametrize("how", ["zip", "legacy", "0", "2", "4"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_poisoned_file_is_refused_and_nothing_in_it_runs(how, suffix, tmp_path):
    target, path = tmp_path / "pwned", tmp_path / f"teacher{suffix}"
    _poison(path, Payload(target), how)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    assert not target.exists()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_poison_would_have_worked(tmp_path):
    target, path = tmp_path / "pwned", tmp_path / "teacher.pth"
    _poison(path, Payload(target), "zip")
    torch.load(path, weights_only=False)
    assert target.exists()


@pytest.mark.parametrize("name", ["posix.system", "builtins.eval"])
def test_numpys_door_lets_nothing_else_in(name, tmp_path):
    """A numpy scalar of objects is the one numpy number that could carry something; it is refused as well."""
    module, function = name.split(".")
    scalar = np.float64(0).__reduce__()[0]
    target, path = tmp_path / "pwned", tmp_path / "teacher.pth"

    class Smuggler:
        def __reduce__(self):
            return scalar, (np.dtype("O"), Call())

    class Call:
        def __reduce__(self):
            argument = f"touch {target}" if function == "system" else f"open({str(target)!r}, 'w')"
            return getattr(__import__(module), function), (argument,)

    torch.save({"model": {"weight": torch.zeros(1)}, "best_acc": Smuggler()}, path)
    with pytest.raises(InputError):
        read_checkpoint(path)
    assert not target.exists()


def test_whole_models_are_refused_with_the_way_out(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear.*save model\.state_dict\(\)"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "number",
    [np.float64(1.5), np.float32(2), np.float16(3), np.int64(4), np.int32(5), np.bool_(True)],
    ids=lambda number: type(number).__name__,
)
def test_numpy_numbers_beside_the_weights_are_allowed(number, tmp_path):
    path = tmp_path / "old.pth"
    torch.save({"model": {"weight": torch.ones(2)}, "best_acc": number}, path)
    assert torch.equal(read_checkpoint(path)["weight"], torch.ones(2))


def test_numbers_pickled_by_numpy_1_are_allowed(tmp_path):
    """Numpy 1 knew the maker of scalars under another module name; old teachers hold it."""
    path = tmp_path / "old.pth"
    torch.save(
        {"model": {"weight": torch.ones(2)}, "best_acc": np.float64(1)},
        path,
        _use_new_zipfile_serialization=False,
    )
    content = path.read_bytes()
    old = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert old != content
    path.write_bytes(old)
    assert torch.equal(read_checkpoint(path)["weight"], torch.ones(2))


def test_the_allow_list_is_put_back(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.ones(2)}, path)
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(path)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files_are_refused_in_one_line(kind, kept, tmp_path):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    tensors = {"weight": torch.randn(200), "bias": torch.randn(20)}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="damaged") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>sign in</html>", b"version https://git-lfs\n", b"{}"])
def test_files_of_another_kind_are_refused(content, tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or no"):
        read_checkpoint(path)


def test_the_content_decides_and_not_the_suffix(tmp_path):
    tensors = {"weight": torch.ones(3)}
    save_file(tensors, tmp_path / "a.pth")
    torch.save(tensors, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        assert torch.equal(read_checkpoint(tmp_path / name)["weight"], tensors["weight"])


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({"epoch": 3, "lr": 0.1}, "epoch, lr"),
        ([torch.ones(1)], "list"),
        (torch.ones(1), "Tensor"),
        ({}, "none"),
    ],
)
def test_files_without_a_state_dict_say_what_they_hold(content, held, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=f"{held}.*no state dict"):
        read_checkpoint(path)


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(InputError, match="no checkpoint file"):
            read_checkpoint(path)


def _zip(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)


@pytest.mark.parametrize("kind", ["pickle in a zip", "torchscript", "tar", "nested", "stacked"])
def test_no_archive_brings_its_payload_in(kind, tmp_path):
    target, path = tmp_path / "pwned", tmp_path / "teacher.pt"
    poison = pickle.dumps({"model": {"weight": Payload(target)}}, protocol=2)
    clean = pickle.dumps({}, protocol=2)
    if kind == "pickle in a zip":
        _zip(path, {"data.pkl": poison, "version": "3\n"})
    elif kind == "torchscript":
        _zip(path, {"constants.pkl": poison, "data.pkl": clean, "version": "3\n", "code/x.py": ""})
    elif kind == "tar":
        with tarfile.open(path, "w") as archive:
            for name in ("pickle", "storages", "tensors"):
                entry = tarfile.TarInfo(name)
                entry.size = len(poison)
                archive.addfile(entry, io.BytesIO(poison))
    elif kind == "nested":
        deep = {"a": [({"b": Payload(target)},)]}
        torch.save({"state_dict": {"weight": torch.ones(1)}, "hyper_parameters": deep}, path)
    else:  # a clean beginning, as the legacy format has several pickles in a row
        torch.save({"weight": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
        head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
        path.write_bytes(head + poison)
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    assert not target.exists()
    assert "\n" not in str(caught.value)


def test_the_environment_cannot_open_the_door(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    target, path = tmp_path / "pwned", tmp_path / "teacher.pth"
    _poison(path, Payload(target), "zip")
    with pytest.raises(InputError, match="nothing in it was run"):
        read_checkpoint(path)
    assert not target.exists()


def test_torchscript_says_what_it_is(tmp_path):
    path = tmp_path / "scripted.pt"
    _zip(path, {"constants.pkl": "", "data.pkl": "", "version": "3\n", "code/x.py": ""})
    with pytest.raises(InputError, match=r"TorchScript archive, which holds a program; .*model\.state_dict"):
        read_checkpoint(path)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    _zip(path, {"data.pkl": pickle.dumps({}, protocol=2), "data/0": bytes(10**7)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"unpack to 10\.0 MB"):
        read_checkpoint(path)


def _entry(kind="F32", shape=(2,), span=(0, 8)):
    return {"dtype": kind, "shape": shape, "data_offsets": span}


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b"{}", 2**64 - 1),
        (b"{}", 10**9),
        ({"w": _entry(shape=(2**40,), span=(0, 2**42))}, None),
        ({"w": _entry(), "v": _entry()}, None),
        ({"w": _entry(shape=(2**33, 2**33))}, None),
        ({"w": _entry(shape=(3,))}, None),
        ({"w": _entry(shape=(-2,))}, None),
        ({"w": _entry(span=(8, 0))}, None),
        ({"w": _entry(span=(8, 16))}, None),
        ({"w": _entry(kind="PICKLE")}, None),
        (b'{"\xff": 1}', None),
        (b'{"w": ' + b"[" * 10000, None),
    ],
    ids=[
        "endless header", "long header", "beyond the file", "overlap", "overflow", "other shape", "negative",
        "backwards", "hole", "type", "no text", "deep",
    ],
)  # fmt: skip
def test_a_lying_safetensors_header_gives_one_error(header, length, tmp_path):
    path = tmp_path / "w.safetensors"
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", length or len(text)) + text + bytes(8))
    with pytest.raises(InputError, match="damaged or not a safetensors file") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damage_of_any_kind_gives_tensors_or_one_error(kind, tmp_path):
    path, random = tmp_path / "w", Random(0)
    tensors = {"weight": torch.randn(2, 2), "bias": torch.randn(2)}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(changed))
            if random.random() < 0.7:
                changed[at] ^= 1 << random.randrange(8)
            else:
                del changed[at : at + random.randint(1, 40)]
        path.write_bytes(changed)
        try:
            read_checkpoint(path)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017  both ends are right


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_paths_that_cannot_be(name):
    with pytest.raises(InputError, match="checkpoint"):
        read_checkpoint(name)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_tensors_that_claim_more_than_the_file_holds_are_refused(kind, tmp_path):
    """A few bytes, repeated by a stride of zero: a copy of it would take a terabyte."""
    path = tmp_path / "w.pth"
    state = {"weight": torch.zeros(1).expand(250_000, 1_000_000), "bias": torch.zeros(3)}
    torch.save({"model": state}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError, match=r"w\.pth.*its tensors claim 1,000,000\.0 MB") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_honest_tensors_may_share_their_memory(tmp_path):
    path, tied = tmp_path / "w.pth", torch.randn(100, 10)
    torch.save({"a": tied, "b": tied, "c": tied[:, :5], "d": torch.ones(1).expand(100)}, path)
    assert torch.equal(read_checkpoint(path)["d"], torch.ones(100))


def test_what_unpacks_to_more_than_the_free_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(3_000_000)}, path)
    assert len(read_checkpoint(path)) == 1

    class Memory:
        available = 10_000_000

    monkeypatch.setattr("psutil.virtual_memory", Memory)
    with pytest.raises(InputError, match=r"unpacks to 0\.0 GB; 0\.0 GB of memory are free"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}},
        {"w": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 8]}},
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "wv"},
        {"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
    ],
    ids=["beyond the end", "large shape", "overflow", "overlap", "gap"],
)  # fmt: skip
def test_safetensors_that_claim_more_than_the_file_holds_are_refused(header, tmp_path):
    path, text = tmp_path / "w.safetensors", json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(InputError, match=r"w\.safetensors is damaged"):
        read_checkpoint(path)
    path.write_bytes(struct.pack("<Q", 2**62) + text + bytes(8))
    with pytest.raises(InputError, match=r"w\.safetensors is damaged"):
        read_checkpoint(path)


def test_a_pipe_is_no_checkpoint(tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(InputError, match="no checkpoint file"):
        read_checkpoint(tmp_path / "w.pth")
    for read in (read_torch, read_safetensors):
        with pytest.raises(InputError, match="not a regular file"):
            read(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "ema", "place", "value"),
    [
        ({"module": {"w": torch.ones(1)}, "lr": 0.1}, True, "module", 1),  # DeepSpeed
        ({"ema": {"module": {"w": torch.ones(1)}}, "model": {"w": torch.zeros(1)}}, True, "ema.module", 1),
        ({"ema": {"module": {"w": torch.ones(1)}}, "model": {"w": torch.zeros(1)}}, False, "model", 0),
        ({"ema": {"decay": 0.99}, "model": {"w": torch.zeros(1)}}, True, "model", 0),
        ({"model_ema": {"w": torch.ones(1)}, "model": None}, False, "model_ema", 1),
        ({"w": torch.ones(1)}, True, "", 1),
    ],
)
def test_the_state_dict_is_found_under_the_keys_of_common_training_scripts(content, ema, place, value, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    state = read_state(path, ema=ema)
    assert (state.place, state.tensors["w"].item()) == (place, value)
    assert state.averaged == place.startswith(("ema", "model_ema"))


def test_a_checkpoint_without_end_is_searched_only_so_deep(tmp_path):
    content = {"w": torch.ones(1)}
    for _ in range(50):
        content = {"model": content}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match="no state dict"):
        read_checkpoint(tmp_path / "w.pth")
