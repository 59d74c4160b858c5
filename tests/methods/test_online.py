"""`DML`: the peers that its plan asks for, and what it refuses."""

import keras
import numpy as np
import pytest

import kd_keras as kd
from kd_keras.methods import DML, Roles


def small(words=None):
    return kd.models.build(words or "lenet5", input_shape=(8, 8, 1), classes=10)


def test_the_papers_balance_is_the_default():
    assert DML().default_alpha == 0.5


def test_copies_of_the_student_start_by_themselves():
    keras.utils.set_random_seed(0)
    student, teacher = small(), small("cnn")
    method = DML(peers=2)
    (stage,) = method.stages(Roles(student, teacher))
    assert (stage.student, stage.teacher, stage.method) == (student, None, method.loss)
    assert len(stage.peers) == 2
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("uint8")
    answers = [np.asarray(model(x)) for model in (student, *stage.peers)]
    assert all(not np.allclose(answers[a], answers[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    "given", ["mlp,cnn", ("mlp", "cnn"), ["mlp", "cnn"]], ids=["joined", "tuple", "list"]
)
def test_peers_are_made_by_name(given):
    (stage,) = DML(peers=given).stages(Roles(small(), None, small))
    assert [peer.name for peer in stage.peers] == ["mlp", "cnn"]


@pytest.mark.parametrize("bad", [0, -1, 1.0, True, "", (), ("mlp", 1)])
def test_other_peers_are_refused(bad):
    with pytest.raises(ValueError, match="`peers` must be a positive number of copies"):
        DML(peers=bad)


def test_a_method_of_several_trainings_is_refused():
    with pytest.raises(ValueError, match=r"one training\. Received: method=FitNets"):
        DML(kd.methods.FitNets()).stages(Roles(small(), None))


@pytest.mark.parametrize(
    "method",
    [DML(), kd.methods.BornAgain(generations=1, ensemble=True)],
    ids=["dml", "an ensemble"],
)
def test_one_that_says_who_learns_with_whom_is_no_part_of_another(method):
    name = type(method).__name__
    roles = Roles(small(), small(), join=lambda several: small())
    both = kd.methods.BornAgain(method)
    with pytest.raises(ValueError, match=rf"{name} decides which models .*{name}\(method="):
        both.stages(roles)
