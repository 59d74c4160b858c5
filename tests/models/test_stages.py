"""`stages` and `last`: what every model answers; and which taps have passed a ReLU."""

import keras
import numpy as np
import pytest
from keras import layers

from kd_keras import models
from kd_keras.models.taps import FeatureExtractor, probe_of

X = np.zeros((1, 8, 8, 1), "float32")


def convolution(x, width, name):
    """A residual block: the sum is where everything passes, and no layer within it."""
    short = layers.Conv2D(width, 1, name=f"{name}_short")(x)
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_a")(x)
    x = layers.Conv2D(width, 3, padding="same", name=f"{name}_b")(x)
    return layers.Add(name=f"{name}_sum")([short, x])


def residual():
    """Two resolutions; the next block begins with a pooling beside a strided convolution."""
    inputs = keras.Input((8, 8, 1))
    x = layers.ReLU(name="relu")(convolution(layers.Rescaling(1.0)(inputs), 4, "one"))
    pooled = layers.MaxPooling2D(name="pooled")(x)
    strided = layers.Conv2D(4, 3, strides=2, padding="same", name="strided")(x)
    x = layers.Dropout(0.5)(layers.Add(name="two_sum")([pooled, strided]))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def plain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="act"),
            layers.MaxPooling2D(name="pool"),
            layers.Conv2D(5, 3, padding="same", name="end"),
            layers.Flatten(),
            layers.Dense(6, name="hidden"),
            layers.Dense(3),
        ]
    )


def nested():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), keras.Sequential(plain().layers[:-1]), layers.Dense(3)]
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.steps = plain().layers

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


def subclassed():
    model = Subclassed()
    model(X)
    return model


def vectors():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, name="one"),
            layers.ReLU(name="act"),
            layers.Dropout(0.5),
            layers.Dense(4, activation="tanh", name="two"),
            layers.Dense(3),
        ]
    )


def named():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, name="other")(inputs)
    x = layers.Conv2D(3, 3, name="stage1")(x)
    x = layers.GlobalAveragePooling2D(name="embedding")(layers.Conv2D(4, 3)(x))
    return keras.Model(inputs, layers.Dense(3)(x))


def bare():
    return keras.Sequential([keras.Input((6,)), layers.Rescaling(0.5), layers.Dense(3)])


def small(name, **knobs):
    return models.build(name, input_shape=(8, 8, 1), classes=3, **knobs)


@pytest.mark.parametrize(
    ("make", "want", "signs"),
    [
        # name of the layer, or its shape; whether it has passed a ReLU
        (residual, ["relu", "two_sum"], [True, False]),
        (plain, ["act", "end"], [True, False]),
        (nested, [(8, 8, 4), (4, 4, 5)], [True, False]),
        (subclassed, [(8, 8, 4), (4, 4, 5)], [True, False]),
        (vectors, ["act", "two"], [True, None]),
        (named, ["stage1"], [False]),
        (bare, [(6,)], [None]),
        (lambda: small("cnn"), ["stage1", "stage2"], [True, True]),
        (lambda: small("mlp", hidden=(5, 4)), ["stage1", "embedding"], [True, True]),
        (lambda: small("mlp", hidden=(5,)), ["embedding"], [True]),
    ],
)
def test_every_model_answers(make, want, signs):
    model = make()
    view = FeatureExtractor(model, ("stages", "last", "logits"))
    numbered = [f"stage{k}" for k in range(1, len(want) + 1)]
    assert view.taps == (*numbered, "last", "logits")
    for tap, layer in zip(numbered, want, strict=True):
        sides = layer if isinstance(layer, tuple) else model.get_layer(layer).output.shape[1:]
        assert view.shapes[tap] == (None, *sides)
        if isinstance(layer, str):
            assert probe_of(model, tap).layer is model.get_layer(layer)
    assert view.shapes["last"] == view.shapes[numbered[-1]]
    assert [view.rectified(tap) for tap in numbered] == signs
    assert view.rectified("last") == signs[-1]
    with pytest.raises(ValueError, match=f"has no tap 'stage{len(want) + 1}'"):
        FeatureExtractor(model, (f"stage{len(want) + 1}",))


def test_a_tap_may_be_asked_for_by_several_names():
    view = FeatureExtractor(small("cnn"), ("stage2", "stages", "last"))
    assert view.taps == ("stage2", "stage1", "last")
    got = view(X)
    np.testing.assert_array_equal(got["stage2"], got["last"])


def test_names_of_ones_own_come_first():
    inputs = keras.Input((6,))
    x = layers.Dense(5, name="last")(inputs)
    x = layers.Dense(4, name="stages")(x)
    view = FeatureExtractor(keras.Model(inputs, layers.Dense(3)(x)), ("last", "stages"))
    assert view.shapes == {"last": (None, 5), "stages": (None, 4)}


def test_the_sign_is_that_of_what_enters():
    inputs = keras.Input((8, 8, 1))
    relu = layers.Conv2D(2, 3, activation="relu")(inputs)
    plain = layers.Conv2D(2, 3)(inputs)
    for x, want in (
        (layers.MaxPooling2D(name="tap")(relu), True),
        (layers.Add(name="tap")([relu, relu]), True),
        (layers.Add(name="tap")([relu, plain]), False),
        (layers.Concatenate(name="tap")([relu, layers.Activation("gelu")(plain)]), None),
        (layers.LeakyReLU(name="tap")(plain), None),
        (layers.ReLU(negative_slope=0.1, name="tap")(plain), None),
        (layers.BatchNormalization(name="tap")(relu), False),
        (layers.Activation("relu6", name="tap")(plain), True),
    ):
        model = keras.Model(inputs, layers.Dense(3)(layers.Flatten(name="flat")(x)))
        view = FeatureExtractor(model, ("tap", "embedding"))
        assert (view.rectified("tap"), view.rectified("embedding")) == (want, want)
