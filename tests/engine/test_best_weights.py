from __future__ import annotations

import pytest
from torch import nn

from stillroom.engine.best_weights import find_again, put_in_place, write_candidate
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models import load_weights
from stillroom.runtime.reporters import Silent


def filled(value):
    model = nn.Linear(2, 2, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def best_of(run):
    model = nn.Linear(2, 2, bias=False)
    load_weights(model, run.best)
    return float(model.weight.detach()[0, 0])


def test_after_a_kill_between_any_two_writes_the_checkpoint_finds_its_weights(tmp_path):
    run = RunFolder(tmp_path)
    one = write_candidate(run, filled(1.0))
    find_again(run, one, Silent(), needed=True)  # killed after the checkpoint that knows them
    assert best_of(run) == 1.0
    two = write_candidate(run, filled(2.0))
    find_again(run, one, Silent(), needed=True)  # killed before the next checkpoint: that epoch is lost
    assert best_of(run) == 1.0
    assert not run.candidate.exists()
    assert write_candidate(run, filled(2.0)) == two
    put_in_place(run)
    find_again(run, two, Silent(), needed=True)  # killed after all of it
    assert best_of(run) == 2.0
    find_again(run, "", Silent(), needed=True)  # a checkpoint of a run that has finished no epoch
    assert not run.best.exists()


def test_weights_that_are_not_the_checkpoints_are_never_used(tmp_path):
    run, said = RunFolder(tmp_path), []
    digest = write_candidate(run, filled(1.0))
    write_candidate(run, filled(2.0))
    put_in_place(run)
    with pytest.raises(InputError, match="does not belong to the checkpoint"):
        find_again(run, digest, Silent(), needed=True)
    assert best_of(run) == 2.0  # somebody's file is not removed with an error
    listener = Silent()
    listener.say = said.append
    find_again(run, digest, listener, needed=False)
    assert len(said) == 1
    assert not run.best.exists()
