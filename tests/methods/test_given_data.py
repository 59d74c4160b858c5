"""Equal data give equal losses, whatever they are held in; for every method."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers

from kd_keras import Distiller, methods
from kd_keras.methods import METHODS

COUNT = 8
SETTINGS = {"subclass": {"subclasses": 1}, "crd": {"examples": COUNT}}
X = np.random.default_rng(0).normal(size=(COUNT, 8, 8, 1)).astype("float32")
Y = np.arange(COUNT) % 3
KINDS = (
    (X.tolist(), Y.tolist()),
    (tf.constant(X), pd.Series(Y, index=range(9, 9 + COUNT))),
    (pd.Series(list(X)), np.eye(3, dtype=bool)[Y]),
    (list(X), pd.DataFrame(np.eye(3)[Y])),
    (X.astype("float64"), tf.constant(Y[:, None], tf.float32)),
)


def network(width):
    images = keras.Input((8, 8, 1))
    options = {"strides": 2, "padding": "same", "activation": "relu"}
    maps = layers.Conv2D(width, 3, name="stage1", **options)(images)
    maps = layers.Conv2D(width + 1, 3, name="stage2", **options)(maps)
    vectors = layers.GlobalAveragePooling2D(name="embedding")(maps)
    return keras.Model(images, layers.Dense(3, name="logits")(vectors))


def losses(name, x, y):
    keras.utils.set_random_seed(0)
    method = methods.get(name, **SETTINGS.get(name, {}))
    distiller = Distiller(student=network(2), teacher=network(3), method=method)
    distiller.compile("sgd", run_eagerly=True)
    return distiller.fit(x, y, batch_size=COUNT // 2, verbose=0).history["loss"]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_equal_data_give_equal_losses(name):
    kind = KINDS[list(METHODS).index(name) % len(KINDS)]
    assert losses(name, *kind) == losses(name, X, Y)


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_equal_labels_are_met_alike(kind):
    """By a method that looks at the labels before the training begins."""
    assert losses("crd", *KINDS[kind]) == losses("crd", X, Y)
