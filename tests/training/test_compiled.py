"""What Keras reads from the model that is trained is read from the student, and not from us."""

import keras
import numpy as np
import pytest
from keras import layers

import kd_keras as kd
from kd_keras.training.supervised import Supervised


@pytest.fixture
def under():
    """`under(policy, make)`: what `make()` gives while that is the policy of the day."""
    before = keras.config.dtype_policy()

    def call(policy, make):
        keras.config.set_dtype_policy(policy)
        try:
            return make()
        finally:
            keras.config.set_dtype_policy(before)

    return call


def convolutions():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, dtype="float32"),
        ]
    )


def first_gradient(student, small, **settings):
    """The gradient of the first kernel, of a loss that is made so small, by a step of SGD."""
    trainer = Supervised(student=student, teacher_cache="off")
    trainer.compile(keras.optimizers.SGD(1.0 / small), run_eagerly=True, **settings)
    before = np.asarray(student.weights[0].numpy())
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 1)).astype("float32")
    trainer.fit(x, np.arange(8) % 3, sample_weight=np.full(8, small), batch_size=8, verbose=0)
    return before - student.weights[0].numpy()


def test_a_student_in_float16_keeps_its_small_gradients(under, tmp_path):
    """Made under the policy, loaded from a file, or nested in a model of float32."""
    half = under("mixed_float16", convolutions)
    half.save(tmp_path / "half.keras")
    outer = keras.Sequential([keras.Input((6, 6, 1)), under("mixed_float16", convolutions)])
    students = [half, keras.models.load_model(tmp_path / "half.keras"), outer]
    want = first_gradient(convolutions(), 1.0)

    def error(found):
        return np.linalg.norm(found - want) / np.linalg.norm(want)

    for student in students:
        assert error(first_gradient(student, 1e-6)) < 0.03
    plain = first_gradient(under("mixed_float16", convolutions), 1e-6, auto_scale_loss=False)
    assert error(plain) > 0.9


def test_the_loss_is_scaled_for_what_is_trained_and_for_nothing_else(under, mlp):
    scaling = keras.optimizers.LossScaleOptimizer

    def half(seed):
        return under("mixed_float16", lambda: mlp(seed))

    def optimizer(trainer, **settings):
        trainer.compile("adam", **settings)
        return trainer.optimizer

    whole, teacher = mlp(0), half(1)
    ours = under("mixed_float16", lambda: kd.Distiller(student=whole, teacher=teacher))
    assert type(optimizer(ours)) is keras.optimizers.Adam
    large = np.full((2, 6), 1e5, "float32")  # beyond float16
    np.testing.assert_array_equal(ours.predict(large, verbose=0), whole.predict(large, verbose=0))
    peers = kd.MutualDistiller(students=[mlp(0), half(1)])
    assert isinstance(optimizer(peers), scaling)
    assert not isinstance(optimizer(peers, auto_scale_loss=False), scaling)
    given = scaling(keras.optimizers.SGD(), initial_scale=8.0)
    peers.compile(given)
    assert peers.optimizer is given


def test_the_choice_is_kept_in_a_file_for_other_trainings_and_at_a_restart(under, mlp, tmp_path):
    scaling = keras.optimizers.LossScaleOptimizer
    for wanted in (True, False):
        trainer = Supervised(student=under("mixed_float16", lambda: mlp(0)))
        trainer.compile("adam", auto_scale_loss=wanted)
        trainer.optimizer.build(trainer.trainable_variables)
        trainer.save(tmp_path / "trainer.keras")
        loaded = keras.models.load_model(tmp_path / "trainer.keras")
        assert isinstance(loaded.optimizer, scaling) is wanted
        assert len(loaded.optimizer.variables) == len(trainer.optimizer.variables)
        trainer.reset_optimizer()
        other = Supervised(student=mlp(0))
        other.compile_like(trainer)
        assert type(other.optimizer) is keras.optimizers.Adam
        again = Supervised(student=under("mixed_float16", lambda: mlp(0)))
        again.compile_like(trainer)
        assert isinstance(again.optimizer, scaling) is wanted
