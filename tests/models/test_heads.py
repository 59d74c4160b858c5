"""The last layer, at any depth, and the refusal of models that end in softmax."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kd_keras.models import heads

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


def sequential(*last):
    return keras.Sequential([keras.Input((6,)), layers.Dense(5, name="hidden"), *last], name="net")


def functional(end):
    inputs = keras.Input((6,))
    return keras.Model(inputs, end(layers.Dense(3, name="logits")(inputs)), name="net")


class Subclassed(keras.Model):
    def __init__(self, *steps):
        super().__init__(name="net")
        self.steps = list(steps)

    def call(self, x):
        for step in self.steps:
            x = step(x)
        return x


def subclassed(*steps):
    model = Subclassed(*steps)
    model(X)
    return model


def dense(activation=None):
    return layers.Dense(3, activation=activation, name="logits")


@pytest.mark.parametrize(
    "make",
    [
        lambda: sequential(dense()),
        lambda: sequential(keras.Sequential([keras.Input((5,)), dense()])),
        lambda: sequential(dense(), layers.Activation("linear", dtype="float32")),
        lambda: functional(lambda z: z),
        lambda: functional(lambda z: z / 2.0),
        lambda: functional(ops.log_softmax),
        lambda: subclassed(layers.Dense(5), dense()),
    ],
    ids=["seq", "nested", "linear", "functional", "scaled", "log_softmax", "sub"],
)
def test_a_model_that_returns_logits_passes_and_its_head_is_found(make):
    model = make()
    heads.refuse_probabilities("student", model)
    assert heads.head(model).name == "logits"


@pytest.mark.parametrize("role", ["student", "teacher"])
@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: sequential(dense("softmax")), "logits"),
        (lambda: sequential(dense("sigmoid")), "logits"),
        (lambda: sequential(dense(), layers.Softmax(name="soft")), "soft"),
        (lambda: sequential(dense(), layers.Activation("softmax", name="soft")), "soft"),
        (lambda: sequential(keras.Sequential([keras.Input((5,)), dense("softmax")])), "logits"),
        (lambda: sequential(dense("softmax"), layers.Activation("linear", name="cast")), "cast"),
        (lambda: functional(layers.Softmax(name="soft")), "soft"),
        (lambda: functional(ops.softmax), "softmax"),
        (lambda: subclassed(layers.Dense(5), dense("softmax")), "logits"),
        (lambda: subclassed(dense(), ops.softmax), "logits"),
    ],
)
def test_a_model_that_returns_probabilities_is_refused(role, make, layer):
    with pytest.raises(ValueError, match=f"`{role}` must return logits") as caught:
        heads.refuse_probabilities(role, make())
    message = str(caught.value)
    assert repr(layer) in message or "its answer on random images" in message
    assert "'net'" in message
    assert "To mend it" in message


def test_the_way_to_mend_it_works():
    model = sequential(dense("softmax"))
    with pytest.raises(ValueError, match="which keeps the weights") as caught:
        heads.refuse_probabilities("teacher", model)
    probabilities = np.asarray(model(X))
    (line,) = [part for part in str(caught.value).split("`") if part.startswith("model.get_layer")]
    exec(line, {"model": model, "keras": keras})
    heads.refuse_probabilities("teacher", model)
    np.testing.assert_allclose(ops.softmax(model(X)), probabilities, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_probabilities_in_half_precision_are_recognised(policy):
    model = subclassed(layers.Dense(50, dtype=policy), ops.softmax)
    with pytest.raises(ValueError, match="random images"):
        heads.refuse_probabilities("teacher", model)


def test_a_model_without_weights_has_no_head():
    model = keras.Sequential([keras.Input((6,)), layers.ReLU()], name="net")
    with pytest.raises(ValueError, match="Model 'net' has no layer with weights"):
        heads.head(model)


def test_a_model_without_layers_has_no_last_one():
    with pytest.raises(ValueError, match="Model 'net' has no layers"):
        heads.last_layer(keras.Sequential(name="net"))
