from __future__ import annotations

import json

import pytest
import torch

from stillroom.errors import InputError
from stillroom.teachers.inference_protocol import (
    JSON_LENGTH,
    ModelMetadata,
    ProtocolError,
    decode_response,
    encode_request,
    error_message,
    parse_address,
    parse_metadata,
    version_of,
)
from stillroom.teachers.model_signature import TensorSpec


@pytest.mark.parametrize(
    ("url", "server", "path", "version"),
    [
        ("http://localhost:8000/v2/models/net", "http://localhost:8000", "/v2/models/net", None),
        ("https://a.b/v2/models/net/", "https://a.b", "/v2/models/net", None),
        ("https://a.b/x/y/v2/models/n%20t/versions/3", "https://a.b/x/y", "/v2/models/n%20t/versions/3", "3"),
        ("http://[::1]:80/v2/models/net", "http://[::1]:80", "/v2/models/net", None),
    ],
)
def test_addresses(url, server, path, version):
    address = parse_address(url)
    assert (address.server, address.path, address.version) == (server, path, version)


def test_requests_are_exposed_without_encryption_to_another_machine():
    assert parse_address("http://a.b/v2/models/net").exposed
    assert not parse_address("https://a.b/v2/models/net").exposed
    assert not parse_address("http://127.0.0.1:80/v2/models/net").exposed


@pytest.mark.parametrize(
    "url", ["http://a.b/", "http://a.b/v2/models", "ftp://a.b/v2/models/net", "http:///v2/models/net", "http://[a/v2"]
)
def test_other_addresses_are_refused(url):
    with pytest.raises(InputError, match="teacher="):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@a.b/v2/models/net",
        "https://s3cret@a.b/v2/models/net",
        "https://a.b/v2/models/net?token=s3cret",
        "https://a.b/v2/models/net#s3cret",
    ],
)
def test_secrets_in_an_address_are_refused_and_not_repeated(url):
    with pytest.raises(InputError, match="give the variable's name as teacher_api_key_env=") as refused:
        parse_address(url)
    assert "s3cret" not in str(refused.value)


def test_metadata():
    body = {
        "name": "net",
        "versions": ["1", 2],
        "platform": "onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 8, 8]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1, 10]}],
    }
    found = parse_metadata(body)
    assert found.versions == ("1", "2")
    assert found.inputs == (TensorSpec("x", torch.float32, (None, 3, 8, 8)),)
    assert found.outputs == (TensorSpec("y", None, (None, 10)),)
    assert parse_metadata({**body, "platform": "torch"}).digest != found.digest
    assert parse_metadata({"name": "net", "inputs": None}).inputs == ()


@pytest.mark.parametrize("body", [[], {"inputs": [{}]}, {"inputs": 3}, {"outputs": [{"name": "x", "datatype": 1}]}])
def test_other_metadata_are_refused(body):
    with pytest.raises(ProtocolError):
        parse_metadata(body)


def response(**output: object) -> bytes:
    return json.dumps({"model_version": "3", "outputs": [{"name": "y", "datatype": "FP32", **output}]}).encode()


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
def test_values_may_be_flat_or_nested(data):
    tensors, version = decode_response(response(shape=[2, 3], data=data), None, ["y"], 2)
    assert tensors[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert version == "3"


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_binary_requests_and_responses(dtype):
    images = torch.arange(12, dtype=dtype).view(2, 6)
    headers, body = encode_request("y", images, ["y"], binary=True)
    length = int(headers[JSON_LENGTH])
    request = json.loads(body[:length])
    assert request["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    assert len(body) - length == request["inputs"][0]["parameters"]["binary_data_size"] == 12 * images.element_size()
    answer = json.dumps({"outputs": request["inputs"]}).encode()
    tensors, version = decode_response(answer + body[length:], str(len(answer)), ["y"], 2)
    assert torch.equal(tensors[0], images)
    assert version is None


def test_json_requests_keep_every_bit_of_float32():
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    headers, body = encode_request("x", images, ["y"], binary=False)
    assert JSON_LENGTH not in headers
    entry = json.loads(body)["inputs"][0]
    assert (entry["shape"], entry["datatype"]) == ([2, 3, 4, 4], "FP32")
    assert torch.equal(torch.tensor(entry["data"]).view(2, 3, 4, 4), images)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"outputs": []}',
        response(shape=[2, 3], data=[1, 2]),
        response(shape=[3, 2], data=[1, 2, 3, 4, 5, 6]),
        response(shape=[2, 1], data=[1, float("nan")]),
        response(shape=[2, 1], datatype="BYTES", data=["a", "b"]),
        response(shape=[2, 1], parameters={"binary_data_size": 8}),
    ],
)
def test_other_responses_are_refused(body):
    with pytest.raises(ProtocolError):
        decode_response(body, None, ["y"], 2)


def test_what_a_server_says_becomes_one_line():
    assert error_message(b'{"error": "no\\nmodel"}') == "no model"
    assert error_message(b'{"detail": [1]}') == "[1]"
    assert error_message(b"<html>\nbusy") == "<html> busy"
    assert len(error_message(b"x" * 10_000)) < 300
    deep = b"[" * 10_000 + b"]" * 10_000  # more than a parser goes down
    assert error_message(deep).startswith("[[[")


def test_the_version_is_that_of_the_address_or_the_only_one():
    def metadata(*versions: str) -> ModelMetadata:
        return ModelMetadata(versions, (), (), "")

    plain, chosen = parse_address("http://a/v2/models/n"), parse_address("http://a/v2/models/n/versions/2")
    assert version_of(chosen, metadata("1", "2")) == "2"
    assert version_of(plain, metadata("5")) == "5"
    assert version_of(plain, metadata()) is None
    with pytest.raises(InputError, match="choose one: http://a/v2/models/n/versions/2"):
        version_of(plain, metadata("1", "2"))
