"""Strided 1x1 convolutions of few channels: a kernel of TensorFlow writes past its memory there."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kd_keras.runtime import kernels
from kd_keras.runtime.execution import Execution
from kd_keras.training.supervised import Supervised


def convolved(size, channels=4, **own):
    """A model of one convolution, 1x1 and strided unless told otherwise."""
    settings = {"kernel_size": 1, "strides": 2, "padding": "same", **own}
    inputs = keras.Input((size, size, channels))
    return keras.Model(inputs, layers.Conv2D(8, name="convolution", **settings)(inputs))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"padding": "valid", "use_bias": False},
        {"strides": (1, 3), "activation": "relu", "bias_initializer": "ones"},
    ],
)
@pytest.mark.parametrize("size", [8, 9])
def test_they_are_computed_on_the_pixels_that_they_look_at(size, settings):
    model = convolved(size, **settings)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, size, size, 4)), tf.float32)
    weights = [w.value for w in model.trainable_variables]

    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(tf.sin(y))
        return [y, *tape.gradient(loss, [x, *weights])]

    plain = step()
    with Execution().running(model):
        ours = step()
    for mine, keras_ in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, keras_, rtol=1e-5, atol=1e-5)
    assert "call" not in vars(model.get_layer("convolution"))  # Keras' own is back


@pytest.mark.parametrize(
    ("settings", "found"),
    [({}, 1), ({"strides": 1}, 0), ({"kernel_size": 3}, 0), ({"channels": 16}, 0)],
)
def test_no_others_are_changed(settings, found):
    assert len(kernels.unsafe(convolved(8, **settings))) == found


@pytest.mark.slow
def test_a_training_that_ends_the_process_in_plain_keras_goes_on():
    """Maps of 96x96 and four channels, where the gradient of the weights fails."""
    first = convolved(96, channels=3, kernel_size=3, strides=1)
    shrunk = layers.Conv2D(8, 1, 2)(layers.Conv2D(4, 3, padding="same")(first.output))
    logits = layers.Dense(2)(layers.GlobalAveragePooling2D()(shrunk))
    trainer = Supervised(student=keras.Model(first.input, logits))
    trainer.compile(optimizer="adam")
    images = np.random.default_rng(0).integers(0, 256, (128, 96, 96, 3), "uint8")
    found = trainer.fit(images, np.arange(128) % 2, batch_size=32, epochs=4, verbose=0)
    assert np.isfinite(found.history["loss"]).all()
