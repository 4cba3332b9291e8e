import pytest
import torch

from stillroom.errors import InputError
from stillroom.runtime import device
from stillroom.runtime.device import Machine, make_machine, processes_joined
from tests.conftest import native_bf16


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No torchrun around the tests."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_alone_there_is_one_process_on_the_cpu():
    machine = make_machine("cpu", "32")
    assert (machine.device, machine.precision, machine.rank, machine.world_size) == (torch.device("cpu"), "32", 0, 1)
    assert machine.first


def test_under_torchrun_rank_and_number_of_processes_are_its_own(monkeypatch):
    for name, value in (("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "2")):
        monkeypatch.setenv(name, value)
    machine = make_machine("cpu", "32")
    assert (machine.rank, machine.world_size, machine.first) == (2, 4, False)


@pytest.mark.parametrize(
    ("there", "kind"), [({"cuda", "mps"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu")], ids=["both", "mps", "none"]
)
def test_automatic_takes_the_fastest_device(monkeypatch, there, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert device._find("auto") == kind


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"accelerator=cuda: .*use accelerator=cpu or auto"):
        make_machine("cuda", "32")


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=r"3 or more processes on a machine with 2 GPUs; lower --nproc-per-node"):
        make_machine("cuda", "32")


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "32")])
def test_automatic_precision_follows_the_processor(monkeypatch, native, precision):
    monkeypatch.setattr(device, "has_native_bf16", lambda kind: native)
    assert make_machine("cpu", "auto").precision == precision


@pytest.mark.parametrize(("avx", "amx", "native"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_cpu_computes_in_bf16_with_avx512_or_amx(monkeypatch, avx, amx, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert native_bf16("cpu") is native
    assert not native_bf16("mps")


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_forward_passes_compute_in_the_precision(precision, dtype):
    with Machine(torch.device("cpu"), precision).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_a_process_alone_joins_no_group():
    with processes_joined(make_machine("cpu", "32")):
        assert not torch.distributed.is_initialized()
