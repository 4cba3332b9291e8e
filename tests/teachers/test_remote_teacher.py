from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

import pytest
import torch

from stillroom import extras
from stillroom.batch import Batch
from stillroom.errors import InputError, Stopped
from stillroom.input_format import InputFormat, InputTransform
from stillroom.runtime.signals import stop_requests
from stillroom.setting_groups import RemoteOptions
from stillroom.teachers.onnx_teacher import OnnxTeacher
from stillroom.teachers.remote_teacher import RemoteTeacher
from stillroom.teachers.teacher import Teacher
from tests.teachers.onnx_models import MEAN, STD, write_onnx
from tests.teachers.servers import Server

FORMAT = InputFormat(MEAN, STD)
PLAIN = InputFormat((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
KEY = "s3cret-Key"


def pixels_of(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def batch_of(pixels: torch.Tensor, strong: torch.Tensor | None = None, epoch: int = 1) -> Batch:
    ids = torch.arange(len(pixels))
    return Batch(pixels.float(), ids, ids, pixels=pixels, strong_pixels=strong, epoch=epoch)


@pytest.fixture(scope="module")
def shared_server(network, tmp_path_factory):
    server = Server(network[1], tmp_path_factory.mktemp("server") / "images.txt")
    yield server
    server.kill()


@pytest.fixture
def server(shared_server):
    """The server, with an empty log and without behaviour of its own."""
    shared_server.log.unlink(missing_ok=True)
    yield shared_server
    shared_server.behave()


@pytest.fixture
def start(tmp_path):
    """Starts further servers."""
    started = []

    def one(*arguments: object) -> Server:
        started.append(Server(arguments[0], tmp_path / f"log {len(started)}", *arguments[1:]))
        return started[-1]

    yield one
    for server in started:
        server.kill()


@pytest.fixture
def ask(tmp_path):
    """Makes teachers with short pauses, and closes them."""
    made = []

    def one(url: str, input_format: InputFormat = FORMAT, **given) -> RemoteTeacher:
        options = RemoteOptions(**{k: given.pop(k) for k in list(given) if k.startswith("teacher_")})
        common = {"folder": tmp_path / "bank", "limit_bytes": 10**9, "backoff": (0.001, 0.01)}
        made.append(RemoteTeacher(url, input_format=input_format, options=options, **{**common, **given}))
        return made[-1]

    yield one
    for teacher in made:
        teacher.close()


@pytest.mark.parametrize("binary", [False, True])
def test_torch_its_onnx_file_and_its_server_agree(network, start, ask, binary):
    model, path = network
    server = start(path, *(["--binary"] if binary else []))
    remote = ask(server.url, teacher_batch_size=3)
    assert isinstance(remote, Teacher)
    pixels, strong = pixels_of(8), pixels_of(8, seed=1)
    output = remote.predict(batch_of(pixels, strong))
    transform = InputTransform(FORMAT)
    with torch.no_grad():
        expected, expected_strong = model(transform(pixels)), model(transform(strong))
    of_file = OnnxTeacher(path).predict(batch_of(pixels)).logits
    scale = expected.abs().max()
    assert (output.logits - expected).abs().max() < 1e-4 * scale
    assert (output.logits - of_file).abs().max() < 1e-4 * scale
    assert (output.parts["logits_strong"] - expected_strong).abs().max() < 1e-4 * scale


def test_no_image_is_requested_twice(server, ask):
    pixels = pixels_of(6)[[0, 1, 1, 2, 3, 4, 5, 0]]
    teacher = ask(server.url, teacher_batch_size=2)
    first = teacher.predict(batch_of(pixels)).logits
    assert len(server.images) == 1 + 6  # the blank image of the trial, and each image once
    assert torch.equal(teacher.predict(batch_of(pixels.flip(0), epoch=2)).logits, first.flip(0))
    teacher.close()
    again = ask(server.url)
    assert torch.equal(again.predict(batch_of(pixels)).logits, first)
    assert len(server.images) == 7
    assert teacher.bank_seconds > 0
    assert again.bank_seconds == 0


def test_a_server_that_dies_in_mid_run_is_waited_for(network, start, ask):
    server = start(network[1])
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        if message.startswith("waiting for"):
            server.process.wait()
            server.start()

    teacher = ask(server.url, teacher_batch_size=2, teacher_concurrency=1, say=say)
    pixels = pixels_of(20)
    server.behave(exit_after=4)
    found = torch.cat([teacher.predict(batch_of(part)).logits for part in pixels.split(5)])
    assert [message.split(" teacher=")[0] for message in said[:1]] == ["waiting for"]
    assert "is back after" in said[1]
    assert len(said) == 2
    assert len(server.images) == len(set(server.images)) == 21
    with torch.no_grad():
        assert torch.allclose(found, network[0](InputTransform(FORMAT)(pixels)), atol=1e-5)


def test_a_server_that_is_not_there_when_a_run_begins_is_waited_for_too(network, start, ask):
    server = start(network[1])
    server.kill()
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        if message.startswith("waiting for"):
            server.start()

    assert ask(server.url, say=say).class_count == 4
    assert len(said) == 2


def test_the_wait_ends_on_request(network, start, ask):
    server = start(network[1])
    teacher = ask(server.url, say=lambda _message: os.kill(os.getpid(), signal.SIGINT))
    server.kill()
    with stop_requests() as request, pytest.raises(Stopped, match="run the same command again") as stopped:
        teacher.predict(batch_of(pixels_of(4)))
    assert stopped.value.signal_number == request.signal_number == signal.SIGINT
    server.start()
    assert teacher.predict(batch_of(pixels_of(4))).logits.shape == (4, 4)


def test_the_wait_ends_with_the_patience(network, start, ask):
    server = start(network[1])
    teacher = ask(server.url, teacher_patience=0.2, say=lambda _message: None)
    server.kill()
    with pytest.raises(InputError, match=r"is not available: .*raise teacher_patience .*is\s*stored: run the same"):
        teacher.predict(batch_of(pixels_of(4)))
    server.start()


@pytest.mark.parametrize("behaviour", [{"status": 503}, {"status": 429, "retry_after": "0"}, {"status": 500}])
def test_failures_that_pass_are_repeated(server, ask, behaviour):
    teacher = ask(server.url, say=lambda _message: None)
    server.behave(fail=3, **behaviour)
    assert teacher.predict(batch_of(pixels_of(4))).logits.isfinite().all()
    assert len(server.images) == 5


def test_a_failure_of_the_model_is_not_repeated_for_ever(server, ask):
    teacher = ask(server.url, say=lambda _message: None)
    server.behave(fail=1000, status=500)
    with pytest.raises(InputError, match="is not available: status 500, told to fail"):
        teacher.predict(batch_of(pixels_of(4)))


def test_a_slow_response_is_requested_again(network, start, ask):
    server = start(network[1])
    teacher = ask(server.url, teacher_timeout=0.2, teacher_patience=0.3, say=lambda _message: None)
    server.behave(delay=0.6)
    with pytest.raises(InputError, match=r"no response within 0\.2 s"):
        teacher.predict(batch_of(pixels_of(4)))


def test_what_other_requests_brought_is_kept_when_one_fails(server, ask):
    teacher = ask(server.url, teacher_batch_size=1, teacher_concurrency=1, say=lambda _message: None)
    pixels = pixels_of(4)
    teacher.predict(batch_of(pixels[:2]))
    server.behave(fail=1, status=400)
    with pytest.raises(InputError, match="refused the request: status 400, told to fail"):
        teacher.predict(batch_of(pixels))
    teacher.predict(batch_of(pixels))
    assert len(server.images) == len(set(server.images)) == 5


def test_the_budget_ends_a_run_before_more_is_sent_and_a_larger_one_goes_on(server, ask):
    teacher = ask(server.url, teacher_query_budget=10)
    teacher.predict(batch_of(pixels_of(6)))
    with pytest.raises(InputError, match=r"teacher_query_budget=10: 7 images were sent .* requires 4 more"):
        teacher.predict(batch_of(pixels_of(4, seed=1)))
    assert len(server.images) == 7
    teacher.close()
    more = ask(server.url, teacher_query_budget=11)
    more.predict(batch_of(pixels_of(6)))
    more.predict(batch_of(pixels_of(4, seed=1)))
    assert len(server.images) == 11


def test_the_api_key_is_sent_and_shown_nowhere(network, start, ask, tmp_path, monkeypatch, caplog, capsys):
    server = start(network[1], "--key", KEY)
    said: list[str] = []
    with pytest.raises(InputError, match="status 401, not accepted: None; give the name of the environment variable"):
        ask(server.url)
    monkeypatch.setenv("TEST_STILLROOM_KEY", "wrong-one")
    with pytest.raises(InputError, match=r"not accepted: Bearer \*\*\*; check the API key that teacher_api_key_env="):
        ask(server.url, teacher_api_key_env="TEST_STILLROOM_KEY", say=said.append)
    monkeypatch.setenv("TEST_STILLROOM_KEY", KEY)
    with caplog.at_level("DEBUG"):
        teacher = ask(server.url, teacher_api_key_env="TEST_STILLROOM_KEY", say=said.append)
        teacher.predict(batch_of(pixels_of(3)))
        server.behave(fail=1, status=400)
    teacher.close()
    files = b"".join(file.read_bytes() for file in (tmp_path / "bank").iterdir())
    assert files
    shown = "".join([*said, caplog.text, *capsys.readouterr(), teacher.identity, repr(teacher.options)])
    assert KEY.encode() not in files
    assert KEY not in shown
    assert teacher.identity in shown


def test_a_key_in_the_place_of_its_name_is_not_repeated(ask):
    with pytest.raises(InputError, match="give the variable's name, not the key") as refused:
        ask("http://127.0.0.1:9/v2/models/net", teacher_api_key_env=KEY)
    assert KEY not in str(refused.value)


def test_identity_is_that_of_the_model_and_not_of_the_host(network, start, ask, server):
    same = start(network[1])
    newer = start(network[1], "--versions", "2")
    scaled = start(write_onnx(network[1].parent / "scaled.onnx"))
    first = ask(server.url).identity
    assert ask(same.url).identity == first
    assert ask(f"{same.url}/versions/1").identity == first
    others = [
        ask(newer.url).identity,
        ask(scaled.url).identity,
        ask(server.url, teacher_identity="May").identity,
        ask(server.url, PLAIN).identity,
    ]
    assert len({first, *others}) == 5


def test_a_version_must_be_known(network, start, ask):
    nameless = start(network[1], "--versions", "")
    with pytest.raises(InputError, match=r"names no version of the model, .*give teacher_identity=TEXT"):
        ask(nameless.url)
    assert "May" in ask(nameless.url, teacher_identity="May").identity
    several = start(network[1], "--versions", "1,2")
    with pytest.raises(InputError, match=r"has the versions 1, 2; choose one: .*/v2/models/net/versions/2"):
        ask(several.url)
    assert ask(f"{several.url}/versions/2").class_count == 4


def test_a_model_that_is_replaced_in_mid_run_ends_it(server, ask):
    teacher = ask(server.url)
    server.behave(version="7")
    with pytest.raises(InputError, match="now predicts with version 7, and this run began with version 1"):
        teacher.predict(batch_of(pixels_of(2)))


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"rows_lost": 1}, r"output logits has the shape \(3, 4\) for 4 images"),
        ({"nan": True}, "output logits has values that are not finite"),
    ],
)
def test_responses_that_cannot_be_used_are_not_stored(server, ask, behaviour, message):
    teacher = ask(server.url)
    server.behave(**behaviour)
    with pytest.raises(InputError, match=message):
        teacher.predict(batch_of(pixels_of(4)))
    server.behave()
    assert teacher.predict(batch_of(pixels_of(4))).logits.isfinite().all()


def test_a_server_of_probabilities_gives_their_logarithm(start, ask, tmp_path):
    server = start(write_onnx(tmp_path / "p.onnx", outputs=["probabilities"], batch=4))
    pixels = pixels_of(6)
    teacher = ask(server.url, PLAIN, offers="probabilities")
    truth = (pixels.float().div(255).mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0])).log_softmax(1)
    assert torch.allclose(teacher.predict(batch_of(pixels)).logits, truth, atol=1e-5)


def test_a_server_of_the_top_classes(start, ask, tmp_path):
    server = start(write_onnx(tmp_path / "k.onnx", outputs=["scores", "classes"]))
    pixels = pixels_of(5)
    truth = (pixels.float().div(255).mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0])).softmax(1)
    for _ in range(2):  # from the server, and from the store
        teacher = ask(server.url, PLAIN, offers="top-k", classes=["a", "b", "c"])
        assert torch.allclose(teacher.predict(batch_of(pixels)).logits.softmax(1), truth, atol=1e-5)
    assert len(server.images) == 6


def test_a_stand_in_is_not_requested(server, ask):
    teacher = ask(server.url)
    output = teacher.predict(replace(batch_of(pixels_of(1), pixels_of(1)), stand_in=True))
    assert output.logits.shape == output.parts["logits_strong"].shape == (1, 4)
    assert len(server.images) == 1


def test_several_requests_run_at_once(server, ask):
    teacher = ask(server.url, teacher_batch_size=1, teacher_concurrency=3)
    together = threading.Barrier(3, timeout=10)  # three threads must be in it at the same time
    send = teacher._client.send
    teacher._client.send = lambda *arguments: (together.wait(), send(*arguments))[1]
    pixels = pixels_of(6)
    logits = teacher.predict(batch_of(pixels)).logits
    assert torch.equal(teacher.predict(batch_of(pixels[2:3])).logits, logits[2:3])


def test_another_model_name_is_refused_at_once(server, ask):
    with pytest.raises(InputError, match="status 404, unknown: /v2/models/other; check the name of the model"):
        ask(f"{server.address}/v2/models/other")


def test_a_missing_package_is_named(ask, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "tenacity" else object())
    with pytest.raises(InputError, match=r"needs tenacity: pip install 'stillroom\[remote\]'"):
        ask("http://127.0.0.1:9/v2/models/net")
