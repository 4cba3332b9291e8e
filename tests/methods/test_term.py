import pytest
from torch import nn

from stillroom.errors import InputError
from stillroom.losses import KD
from stillroom.methods import Term


def test_a_term_knows_its_name_and_what_its_loss_takes():
    term = Term(KD(), weight=2.0, warmup=4)
    assert (term.name, term.needs, term.connect_needs) == ("kd", ("student_logits", "teacher_logits"), ())
    assert [term.weight_at(epoch) for epoch in (1, 4, 9)] == [0.5, 2.0, 2.0]
    assert [term.weight_at(epoch, initial_epochs=1) for epoch in (1, 2)] == [0.0, 0.5]


def test_bad_terms_are_refused():
    with pytest.raises(InputError, match="weight=-1 of KD: give a finite number"):
        Term(KD(), weight=-1)
    with pytest.raises(InputError, match="warmup=-1 of KD: give epochs"):
        Term(KD(), warmup=-1)

    class Strange(nn.Module):
        def forward(self, moon): ...

    with pytest.raises(InputError, match="takes 'moon', which no method provides"):
        Term(Strange())
