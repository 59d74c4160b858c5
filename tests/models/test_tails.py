"""Tails: what lies behind a tap, of every model there is."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kd_keras import models
from kd_keras.models.taps import FeatureExtractor

SIZES = {"xception": (71, 71, 3)}
SMALL = {"mlp": {"hidden": (6, 5)}, "lenet5": {}, "cnn": {"width": 0.25}}
# the same code as another of their family
DEEPER = ("resnet101v2", "efficientnet_lite1", "efficientnet_lite2")
STAGES = ("stage1", "stage2", "stage3", "stage4")


def check(model, tap, atol):
    """The tail answers as the model does, once it has its weights."""
    behind = models.tail(model, tap)
    before = [np.array(v) for v in model.weights]
    ours = {layer.name: layer for layer in model.layers}
    copied = [layer for layer in behind.layers if layer.weights]
    for layer in copied:
        assert layer is not ours[layer.name]
        layer.set_weights(ours[layer.name].get_weights())
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *model.input_shape[1:])).astype("float32")
    layer = model.get_layer(models.pretrained.TAPS.get(model.name, {}).get(tap, tap))
    start = layer.output if behind.input_shape == layer.output.shape else layer.input
    features = keras.Model(model.input, start)(images, training=False)
    if not np.allclose(behind(features, training=False), model(images, training=False), atol=atol):
        features = keras.Model(model.input, layer.input)(images, training=False)
    np.testing.assert_allclose(
        behind(features, training=False), model(images, training=False), atol=atol
    )
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", SMALL)
def test_of_the_small_models(name):
    model = models.build(name, input_shape=(8, 8, 1), classes=3, **SMALL[name])
    for tap in [layer.name for layer in model.layers if layer.name.startswith("stage")]:
        check(model, tap, 1e-5) if "dropout" not in tap else None
    check(model, "embedding", 1e-5)
    FeatureExtractor(model, ("embedding",))  # the model is as it was


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in models.pretrained.BACKBONES if n not in DEEPER])
def test_of_the_backbones(name):
    model = models.build(name, input_shape=SIZES.get(name, (32, 32, 3)), classes=3)
    for tap in STAGES:
        check(model, tap, 1e-3)


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
