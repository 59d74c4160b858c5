"""Tails: what lies behind a tap; `test_every_model.py` has those of the backbones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tail_answers import check

from kd_keras import models
from kd_keras.models.taps import FeatureExtractor

SMALL = {"mlp": {"hidden": (6, 5)}, "lenet5": {}, "cnn": {"width": 0.25}}


@pytest.mark.parametrize("name", SMALL)
def test_of_the_small_models(name):
    model = models.build(name, input_shape=(8, 8, 1), classes=3, **SMALL[name])
    names = [layer.name for layer in model.layers]
    stages = [name for name in names if name.startswith("stage") and "dropout" not in name]
    check(model, (*stages, "embedding"), 1e-5)
    FeatureExtractor(model, ("embedding",))  # the model is as it was


def test_a_tap_that_is_passed_by_is_refused():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(4, name="aside")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([inputs, keras.layers.Dense(4)(x)]))
    with pytest.raises(ValueError, match=r"Tap 'aside' of .* is bypassed by"):
        models.tail(model, "aside")


def test_of_what_is_nested_and_of_models_of_other_kinds():
    model = models.build("lenet5", input_shape=(8, 8, 1), classes=3)
    inputs = keras.Input((8, 8, 1))
    around = keras.Model(inputs, model(inputs))
    assert models.tail(around, "lenet5/stage1").input_shape == (None, 8, 8, 6)
    in_a_row = keras.Sequential([keras.Input((8, 8, 1)), *model.layers[1:]])
    assert models.tail(in_a_row, "stage2").input_shape == (None, 4, 4, 16)


def test_no_tap_and_no_graph_are_refused():
    model = models.build("lenet5", input_shape=(8, 8, 1), classes=3)
    with pytest.raises(ValueError, match=r"no tap 'stage9'\. Nearest: stage"):
        models.tail(model, "stage9")

    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.inner = model

        def call(self, x):
            return self.inner(tf.abs(x))

    own = Own()
    own(np.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match=r"can begin at tap 'lenet5' of 'own'.*`keras\.ops`"):
        models.tail(own, "lenet5")
