"""A training whose loss is no number ends with a sentence, in a script as in a command."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras.runtime.execution import LOOP


def distiller_of(mlp, rate=1e30, **settings):
    """Its loss grows with the square of the weights, to infinity at the second step."""
    distiller = kd.Distiller(
        student=mlp(0), teacher=mlp(1), method="logit_regression", alpha=0.5, name="taught"
    )
    distiller.compile(keras.optimizers.SGD(rate), **settings)
    return distiller


def test_fit_says_what_broke_and_where(examples, mlp):
    distiller = distiller_of(mlp, run_eagerly=True)
    with pytest.raises(kd.Diverged) as caught:
        distiller.fit(*examples, batch_size=4, epochs=2, verbose=0)
    said = str(caught.value)
    assert said.startswith(f"The training {distiller.student.name!r} diverged: ")
    assert "distillation_loss is not finite by epoch 1, step " in said
    assert "learning rate 1e+30. Lower the learning rate" in said


def test_several_steps_stay_one_call(examples, mlp):
    distiller = distiller_of(mlp, 0.01)
    distiller.fit(*examples, batch_size=1, epochs=4, verbose=0)
    assert distiller.execution.steps_per_execution == LOOP
    distiller.optimizer.learning_rate = 1e30
    with pytest.raises(kd.Diverged, match=r"by epoch 2, step 16, learning rate 1e\+30"):
        distiller.fit(*examples, batch_size=1, initial_epoch=1, epochs=4, verbose=0)


def test_a_last_step_that_breaks_the_weights_is_found_too(examples, mlp):
    """Its own loss is that of the weights before it."""
    distiller = distiller_of(mlp, 1e38, run_eagerly=True)
    with pytest.raises(kd.Diverged, match=r"the weight '.*' is not finite by epoch 1, step 1,"):
        distiller.fit(*examples, sample_weight=np.full(16, 1e6), verbose=0)


def test_a_pipeline_with_nan_among_its_images_diverges(examples, mlp):
    x = np.where(examples[0] > 2, np.nan, examples[0])
    with pytest.raises(kd.Diverged, match="check that no image contains NaN"):
        distiller_of(mlp, 0.1).fit(tf.data.Dataset.from_tensors((x, examples[1])), verbose=0)


def test_who_asks_keras_to_end_it_gets_that(examples, mlp):
    ends = keras.callbacks.TerminateOnNaN()
    distiller = distiller_of(mlp)
    history = distiller.fit(*examples, batch_size=4, epochs=9, callbacks=[ends], verbose=0)
    assert len(history.epoch) < 9


def test_stored_answers_are_finite():
    rows = np.zeros((5, 3))
    rows[3:, 1] = np.nan
    with pytest.raises(ValueError, match=r"`rows\['logits'\]` must hold finite .*2 of 5 .*on 3"):
        kd.CachedTeacher({"logits": rows})
