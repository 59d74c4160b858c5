"""Teachers that do not answer alike each time: their answers are not stored."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd


class Noisy(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


class ByPlace(layers.Layer):
    """Draws the same numbers each time, another one for each place in the batch."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=3)


class ByPython(layers.Layer):
    """Which a graph would freeze at the number that was drawn first."""

    def call(self, x):
        return x + np.random.default_rng().normal()


class ByBatch(layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0)


def teacher(layer):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3, name="logits")(layer(inputs)))


CHANGING = (Noisy, ByPlace, ByPython, ByBatch)
STEADY = (lambda: layers.Dropout(0.5), layers.BatchNormalization, lambda: layers.Dense(5))


def test_they_are_refused_where_answers_are_asked_for(examples):
    x, _ = examples
    for make in CHANGING:
        source = kd.LiveTeacher(teacher(make()))
        with pytest.raises(kd.cache.ChangingTeacher, match=r"same output each time.*'logits', off"):
            kd.cache.rows(source, x)
    for make in STEADY:
        assert kd.cache.rows(kd.LiveTeacher(teacher(make())), x)["logits"].shape == (16, 3)


def test_they_run_live_in_fit_and_it_is_said(examples, mlp, caplog):
    distiller = kd.Distiller(student=mlp(), teacher=teacher(Noisy()))
    distiller.compile("sgd", run_eagerly=True)
    with caplog.at_level(logging.WARNING, "kd_keras"):
        distiller.fit(*examples, verbose=0)
    assert "The teacher runs at every step. The teacher must give the same output" in caplog.text
    assert "teacher" not in distiller.inputs.joined.batch
    with pytest.raises(ValueError, match="same output each time"):
        kd.cache.attach(tf.data.Dataset.from_tensor_slices(examples).batch(8), teacher(Noisy()))
