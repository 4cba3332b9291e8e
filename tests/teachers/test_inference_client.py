from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from stillroom.errors import InputError
from stillroom.teachers.inference_client import HEALTH, InferenceClient, read_api_key
from stillroom.teachers.inference_protocol import ModelAddress


@pytest.fixture
def client():
    """A client of a server that gives the responses in ``client.script`` in turn, the last one for ever."""
    script: list[tuple[int, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = script.pop(0) if len(script) > 1 else script[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made = InferenceClient(
        ModelAddress(f"http://127.0.0.1:{server.server_port}", "net", None),
        key="s3cret",
        timeout=5.0,
        patience=60.0,
        connections=1,
        backoff=(0.001, 0.002),
        say=lambda message: said.append(message),
    )
    said: list[str] = []
    made.script, made.said = script, said  # for the test
    yield made
    made.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_pause_is_that_which_the_server_asks_for(client, monkeypatch):
    pauses = []
    monkeypatch.setattr(client, "_sleep", pauses.append)
    client.script += [(503, {"Retry-After": "7"}, b""), (503, {"Retry-After": "soon"}, b""), (200, {}, b"{}")]
    assert client.get_json("/v2") == {}
    assert pauses[0] == 7
    assert 0 <= pauses[1] <= 0.002


def test_an_outage_is_said_once_and_its_end_too(client):
    client.script += [(503, {}, b"")] * 5 + [(200, {}, b"{}")]
    client.get_json("/v2")
    assert [message.split(" teacher=")[0] for message in client.said] == ["waiting for", client.said[1]]
    assert "is back after" in client.said[1]


def test_one_failure_is_not_worth_a_message(client):
    client.script += [(503, {}, b""), (200, {}, b"{}")]
    client.get_json("/v2")
    assert client.said == []


def test_redirections_are_not_followed(client):
    client.script.append((302, {"Location": "http://127.0.0.1:9/?s3cret"}, b""))
    with pytest.raises(InputError, match="status 302; redirections are not followed") as refused:
        client.get_json("/v2")
    assert "s3cret" not in str(refused.value)


def test_a_server_that_is_not_ready_yet_is_waited_for(client):
    client.script += [(400, {}, b""), (400, {}, b""), (200, {}, b"")]  # Triton's way
    assert client.get_json(HEALTH, optional=True) is None


def test_what_a_server_lacks_is_none_only_where_it_is_optional(client):
    client.script.append((404, {}, b""))
    assert client.get_json("/v2", optional=True) is None
    with pytest.raises(InputError, match="check the name of the model"):
        client.get_json("/v2/models/net")


def test_a_page_is_no_json(client):
    client.script.append((200, {}, b"<html>"))
    with pytest.raises(InputError, match="is it a server of the Open Inference Protocol v2"):
        client.get_json("/v2")


@pytest.mark.parametrize(("value", "key"), [("abc", "abc"), (" abc\n", "abc"), (None, None), ("", None), ("a b", None)])
def test_the_key_is_that_of_the_variable(monkeypatch, value, key):
    monkeypatch.delenv("TEST_STILLROOM_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_STILLROOM_KEY", value)
    if key is None:
        with pytest.raises(InputError, match="names no environment variable that holds an API key"):
            read_api_key("TEST_STILLROOM_KEY")
    else:
        assert read_api_key("TEST_STILLROOM_KEY") == key


def test_without_a_variable_there_is_no_key():
    assert read_api_key(None) is None
