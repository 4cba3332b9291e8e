from __future__ import annotations

import re
import shutil

import pytest

from stillroom.engine.predictions import predictions_of
from stillroom.restore import dataset_of
from tests.export.conftest import STUDENTS


@pytest.mark.parametrize("student", STUDENTS)
def test_the_snippets_of_the_card_name_the_class_that_the_model_names(
    made, student, images, tmp_path, monkeypatch, capsys
):
    run, result = made(student)
    for file in result.files:
        shutil.copy(file, tmp_path)
    shutil.copy(max((images / "val" / "colour 3").glob("*.png"), key=lambda path: path.name), tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    for snippet in snippets:
        exec(snippet, {})
    place = int((dataset_of(run).val.labels == 3).nonzero()[-1])
    expected = run.config()["classes"][int(predictions_of(run).logits[place].argmax())]
    assert capsys.readouterr().out.splitlines() == [expected, expected]


def test_models_of_timm_and_torchvision_need_no_stillroom(made):
    for student in ("timm:test_vit", "torchvision:shufflenet_v2_x0_5"):
        card = (made(student)[1].folder / "README.md").read_text()
        assert "from stillroom" not in card
    assert made("timm:test_vit")[1].scores["PyTorch"].images == 24
