import pytest
import torch

from stillroom.losses.embedding.projected_embedding import ProjectedEmbedding

STUDENT, TEACHER = torch.ones(2, 3), torch.ones(2, 5)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_students_embedding_gets_the_teachers_width(kind: torch.dtype) -> None:
    loss = ProjectedEmbedding().connect(STUDENT, TEACHER)
    assert loss.projected(STUDENT.to(kind), TEACHER.to(kind)).shape == (2, 5)


def test_without_a_projector_it_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match=r"call connect\(student_embedding, teacher_embedding\)"):
        ProjectedEmbedding().projected(STUDENT, TEACHER)
