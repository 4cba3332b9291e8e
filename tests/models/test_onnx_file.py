from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from stillroom.errors import InputError
from stillroom.models.onnx_file import onnx_digest, onnx_metadata, open_session
from tests.teachers.onnx_models import write_onnx


def test_a_session_has_the_threads_that_were_asked_for(tmp_path):
    session = open_session(write_onnx(tmp_path / "t.onnx"), 1)
    assert session.get_session_options().intra_op_num_threads == 1
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_texts_about_a_file_are_read(tmp_path):
    path = write_onnx(tmp_path / "t.onnx")
    assert onnx_metadata(path) == {}
    model = onnx.load_model(str(path))
    onnx.helper.set_model_props(model, {"stillroom": "{}"})
    onnx.save_model(model, str(path))
    assert onnx_metadata(path) == {"stillroom": "{}"}
    path.write_text("text")
    with pytest.raises(InputError, match="is not an ONNX file"):
        onnx_metadata(path)


def external(path, values):
    """A file whose weights lie in a file beside it."""
    (path.parent / "weights.bin").unlink(missing_ok=True)  # onnx appends to it
    model = onnx.load_model(str(write_onnx(path)))
    model.graph.initializer.append(numpy_helper.from_array(np.full(1000, values, np.float32), "weights"))
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=100)
    return path


def test_the_digest_covers_external_data(tmp_path):
    path = external(tmp_path / "t.onnx", 1.0)
    graph, before = path.read_bytes(), onnx_digest(path)
    assert onnx_digest(path) == before
    external(path, 2.0)
    assert path.read_bytes() == graph
    assert onnx_digest(path) != before


def test_missing_external_data_are_named(tmp_path):
    path = external(tmp_path / "t.onnx", 1.0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"weights\.bin, which holds external data of .*t\.onnx, cannot be read"):
        onnx_digest(path)


def test_external_data_outside_the_folder_are_refused(tmp_path):
    path = external(tmp_path / "t.onnx", 1.0)
    model = onnx.load_model(str(path), load_external_data=False)
    for entry in model.graph.initializer[-1].external_data:
        if entry.key == "location":
            entry.value = "../secret.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="lie outside its folder"):
        onnx_digest(path)


def test_text_is_no_onnx_file(tmp_path):
    (tmp_path / "t.onnx").write_text("hello")
    with pytest.raises(InputError, match="is not an ONNX file"):
        onnx_digest(tmp_path / "t.onnx")
