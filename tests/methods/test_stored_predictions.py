"""For every method: training on stored predictions is training on the teacher."""

import pytest
from storing import assert_alike, examples, history, made

from kd_keras import methods

KINDS = [type(made(name)) for name in methods.METHODS]
# each loss once; one that has no teacher has no predictions to store
ASKING = [
    name
    for place, (name, kind) in enumerate(zip(methods.METHODS, KINDS, strict=True))
    if kind.teacher_taps and KINDS.index(kind) == place
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKING)
def test_stored_predictions_train_as_the_teacher_does(name):
    """A method that asked for another tap, or kept a batch's order, would train another loss.

    Two eager steps tell: to trace a step takes longer. `test_storages.py` has graphs and epochs.
    """
    x, y = examples(32)
    how = {"epochs": 1, "run_eagerly": True}
    live = history((x, y), x, name, **how, teacher_cache="off")
    assert_alike(history((x, y), x, name, **how), live, "in memory")
