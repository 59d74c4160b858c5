"""Fused batch normalisation is Keras' own: outputs, gradients, moving statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kd_keras.runtime import execution, kernels
from kd_keras.runtime.execution import Execution

FUSED = Execution(fused_batch_norm=True)
SETTINGS = {
    "plain": {},
    "no_scale": {"scale": False},
    "no_center": {"center": False},
    "bare": {"scale": False, "center": False},
    "slow_and_blunt": {"momentum": 0.3, "epsilon": 0.2},
    "never_moved": {"momentum": 1.0},
    "only_the_last": {"momentum": 0.0},
    "last_axis_by_number": {"axis": 3},
    "regular": {"gamma_regularizer": "l2", "beta_constraint": "non_neg"},
}


def normalising(shape=(4, 4, 3), settings=None, **own):
    """A model of one batch normalisation with weights that are nothing special."""
    model = keras.Sequential(
        [keras.Input(shape), layers.BatchNormalization(name="norm", **(settings or {}), **own)]
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 2.0, w.shape) for w in model.get_weights()])
    return model


def pixels(shape=(5, 4, 4, 3)):
    return tf.constant(np.random.default_rng(0).normal(2.0, 3.0, shape), tf.float32)


def step(model, how, x, mask=None):
    """Outputs, and gradients of some loss to the inputs and the weights; whether it was fused."""
    layer, weights = model.get_layer("norm"), model.trainable_variables
    slope = tf.cast(tf.reshape(tf.range(tf.size(x)) % 7, tf.shape(x)), tf.float32)

    def forward(x):
        with how.running(model), tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True, mask=mask)
            loss = tf.reduce_sum(slope * tf.cast(y, tf.float32))
        return y, tape.gradient(loss, [x, *(w.value for w in weights)])

    graph = tf.function(forward, autograph=False)
    fused = {op.type for op in graph.get_concrete_function(x).graph.get_operations()}
    assert "call" not in vars(layer)  # Keras' own is back
    return *graph(x), "FusedBatchNormV3" in fused


def same(ours, theirs, **tolerance):
    for mine, yours in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, yours, **tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("steps", [1, 4])
def test_fused_batch_normalisation_is_keras_own(settings, steps):
    fused, plain = normalising(settings=settings), normalising(settings=settings)
    for k in range(steps):
        x = pixels() + k
        y, gradients, was_fused = step(fused, FUSED, x)
        want, slopes, was_not = step(plain, execution.KERAS, x)
        assert (was_fused, was_not) == (True, False)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
        same(gradients, slopes, rtol=1e-3, atol=1e-3)
        same(fused.get_weights(), plain.get_weights(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 1, 1, 3), (1, 2, 1, 3)])
def test_of_one_or_two_numbers(shape):
    """The kernel's variance divides by n - 1, which here is nothing, or half of n."""
    fused, plain = normalising(shape[1:]), normalising(shape[1:])
    y, gradients, was_fused = step(fused, FUSED, pixels(shape))
    want, slopes, _ = step(plain, execution.KERAS, pixels(shape))
    assert was_fused
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    same(gradients, slopes, rtol=1e-3, atol=1e-2)
    same(fused.get_weights(), plain.get_weights(), rtol=1e-5)


def test_what_is_frozen_or_masked_runs_as_keras_runs_it():
    for mask in (None, tf.constant(np.arange(80).reshape(5, 4, 4) % 3 > 0)):
        models = [normalising(), normalising()]
        if mask is None:
            for model in models:
                model.get_layer("norm").trainable = False
        (y, gradients, fused), (want, slopes, _) = (
            step(model, how, pixels(), mask)
            for model, how in zip(models, (FUSED, execution.KERAS), strict=True)
        )
        assert not fused
        np.testing.assert_array_equal(y, want)
        same(gradients, slopes, rtol=0)
        same(models[0].get_weights(), models[1].get_weights(), rtol=0)


def test_in_evaluation_nothing_differs_bit_for_bit():
    model, x = normalising(), pixels()
    want = model(x, training=False)
    with FUSED.running(model):
        np.testing.assert_array_equal(model(x, training=False), want)
        np.testing.assert_array_equal(model(x), want)


@keras.saving.register_keras_serializable("kd_keras_tests")
class Shifted(layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) + 1.0


class Renamed(layers.BatchNormalization):
    pass


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: layers.BatchNormalization(synchronized=True), (4, 4, 3)),
        (lambda: layers.BatchNormalization(renorm=True), (4, 4, 3)),
        (lambda: layers.BatchNormalization(axis=1), (4, 4, 3)),
        (lambda: layers.BatchNormalization(dtype="mixed_bfloat16"), (4, 4, 3)),
        (lambda: layers.BatchNormalization(dtype="float64"), (4, 4, 3)),
        (layers.BatchNormalization, (3,)),
        (layers.BatchNormalization, (4, 3)),
        (Shifted, (4, 4, 3)),
        (layers.LayerNormalization, (4, 4, 3)),
    ],
)
def test_what_the_kernel_cannot_compute_is_left_alone(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer()])
    assert kernels.fusible(model) == []


def test_a_subclass_without_a_call_of_its_own_and_nested_ones_are_fused():
    inner = keras.Sequential([keras.Input((4, 4, 3)), Renamed()])
    model = keras.Sequential([keras.Input((4, 4, 3)), inner, layers.BatchNormalization()])
    assert kernels.fusible(model) == [inner.layers[0], model.layers[1]]
    assert kernels.fusible(keras.Sequential([layers.BatchNormalization()])) == []  # not built


def test_whole_numbers_are_normalised_as_by_keras():
    """The kernel takes floats alone, and Keras casts no whole numbers on the way in."""
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    model = keras.Model(inputs, layers.BatchNormalization()(inputs))
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    with FUSED.running(model):
        np.testing.assert_allclose(
            np.asarray(model(x, training=True)).mean(axis=(0, 1, 2)), 0.0, atol=1e-5
        )


def test_several_steps_must_be_a_positive_whole_number():
    for bad in (0, -1, 2.0, "16", True):
        with pytest.raises(ValueError, match=r"`steps_per_execution` must be a positive whole"):
            Execution(steps_per_execution=bad)
