"""Training on stored predictions, wherever they are stored."""

import numpy as np
import pytest
import tensorflow as tf
from storing import assert_alike, examples, history, made

from kd_keras import cache


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kd", "crd"])
def test_wherever_they_are_stored(name, tmp_path):
    """Where rows lie is of no account to a method: one without and one with an index stand here."""
    x, y = examples()
    known = {"image": x, "index": np.arange(48)} if made(name).needs_index else x
    pairs = tf.data.Dataset.from_tensor_slices((known, y))

    live = history((x, y), x, name, teacher_cache="off")
    on_disk = history((x, y), x, name, teacher_cache=cache.Cache(tmp_path))
    assert_alike(on_disk, live, "on disk")
    mapped = history((x, y), x, name, teacher_cache=cache.Cache(tmp_path, memory_share=0.0))
    assert_alike(mapped, live, "mapped")

    # a pipeline in another order: each example must have its own teacher's predictions
    def looked_up(teacher):
        ordered = pairs.shuffle(48, seed=1, reshuffle_each_iteration=False).batch(16)
        return cache.attach(ordered, teacher, taps=made(name).teacher_taps)

    def run_live(teacher):
        return pairs.shuffle(48, seed=1, reshuffle_each_iteration=False).batch(16)

    np.testing.assert_allclose(
        history(looked_up, x, name)[0], history(run_live, x, name)[0], rtol=1e-5
    )
