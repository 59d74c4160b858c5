"""The last layer, at any depth, and the refusal of models that end in softmax."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from kd_keras.models import graphs, heads

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


class Softly(layers.Layer):
    """A layer of one's own, with a softmax that nobody can see from outside."""

    def call(self, x):
        return ops.exp(ops.log_softmax(x))


class SoftDense(layers.Dense):
    """Its activation says that it is linear."""

    def call(self, x):
        return ops.softmax(super().call(x))


@keras.saving.register_keras_serializable("kd_keras_tests")
def own(x):
    return ops.exp(x) / ops.sum(ops.exp(x), axis=-1, keepdims=True)


def nested(*last, around=keras.Sequential):
    inner = keras.Sequential([keras.Input((5,)), *last], name="inner")
    if around is keras.Sequential:
        return sequential(inner)
    inputs = keras.Input((6,))
    return keras.Model(inputs, inner(layers.Dense(5)(inputs)), name="net")


def nested_functional():
    inner_inputs = keras.Input((5,))
    inner = keras.Model(inner_inputs, ops.softmax(dense()(inner_inputs)), name="inner")
    return sequential(inner)


def several_inputs():
    inputs = {name: keras.Input((3,), name=name) for name in ("left", "right")}
    both = dense()(layers.Concatenate()(list(inputs.values())))
    return keras.Model(inputs, {"logits": own(both), "sum": ops.sum(both, axis=-1)}, name="net")


def of_words():
    words = keras.Input((None,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(2, 4)(words))
    return keras.Model(words, layers.Softmax(name="soft")(dense()(x)), name="net")


# models that return probabilities, and what makes them
SOFT = [
    (lambda: sequential(dense("softmax")), "softmax"),
    (lambda: sequential(dense("sigmoid")), "sigmoid"),
    (lambda: sequential(dense(tf.nn.softmax)), "softmax"),
    (lambda: sequential(dense(tf.nn.sigmoid)), "sigmoid"),
    (lambda: sequential(dense(ops.hard_sigmoid)), None),  # not to be undone
    (lambda: sequential(dense(lambda z: ops.softmax(z))), "softmax"),
    (lambda: sequential(dense(lambda z: ops.sigmoid(z))), "sigmoid"),
    (lambda: sequential(dense(own)), "softmax"),
    (lambda: sequential(dense(layers.Softmax())), "softmax"),
    (lambda: sequential(dense(layers.Activation("softmax"))), "softmax"),
    (lambda: sequential(dense(Softly())), "softmax"),
    (lambda: sequential(dense(), layers.Softmax(name="soft")), "softmax"),
    (lambda: sequential(dense(), layers.Activation("softmax")), "softmax"),
    (lambda: sequential(dense(), layers.Lambda(lambda z: tf.nn.softmax(z))), "softmax"),
    (lambda: sequential(dense(), Softly()), "softmax"),
    (lambda: sequential(dense(), layers.Softmax(), layers.Identity()), "softmax"),
    (lambda: sequential(SoftDense(3, name="logits")), "softmax"),
    (lambda: sequential(dense("softmax"), layers.Activation("linear", name="cast")), "softmax"),
    (lambda: nested(dense("softmax")), "softmax"),
    (lambda: nested(dense(), layers.Softmax()), "softmax"),
    (lambda: nested(dense(lambda z: ops.softmax(z)), around=keras.Model), "softmax"),
    (lambda: nested(dense(), layers.Softmax(), around=keras.Model), "softmax"),
    (nested_functional, "softmax"),
    (several_inputs, "softmax"),
    (of_words, "softmax"),
    (lambda: functional(layers.Softmax(name="soft")), "softmax"),
    (lambda: functional(ops.softmax), "softmax"),
    (lambda: functional(ops.sigmoid), "sigmoid"),
    (lambda: functional(lambda z: ops.softmax(z) * 1.0), "softmax"),
    (lambda: subclassed(layers.Dense(5), dense("softmax")), "softmax"),
    (lambda: subclassed(layers.Dense(5, "relu"), dense(), ops.softmax), "softmax"),
    (lambda: subclassed(layers.Dense(5, "relu"), dense(), ops.sigmoid), "sigmoid"),
    (lambda: subclassed(sequential(dense()), own), "softmax"),
]


def drawn(model):
    return keras.tree.map_structure(heads._drawn, graphs.input_spec(model))


def answers(model, images):
    return np.asarray(graphs.logits_in(model(images), model))


def mended(model, message):
    """The model after the code in a message was run."""
    assert "'net'" in message
    place = {"model": model, "keras": keras}
    for code in message.partition("To fix it, ")[2].split("`")[1::2]:
        if code != "call":  # the name of a method
            exec(code, place)
    return place["model"]


@pytest.mark.parametrize("number", range(len(SOFT)))
def test_a_model_that_returns_probabilities_is_refused_and_the_advice_mends_it(number):
    make, kind = SOFT[number]
    keras.utils.set_random_seed(0)
    model = make()
    images = keras.tree.map_structure(
        lambda x: x[:2] / 255 if x.dtype == "float32" else x[:2], drawn(model)
    )
    probabilities, weights = answers(model, images), {id(v) for v in model.weights}
    with pytest.raises(ValueError, match="`student` must return logits") as caught:
        heads.refuse_probabilities("student", model)
    model = mended(model, str(caught.value))
    heads.refuse_probabilities("student", model)
    assert {id(v) for v in model.weights} == weights
    if kind is not None:
        again = getattr(ops, kind)(answers(model, images))
        np.testing.assert_allclose(again, probabilities, rtol=1e-3, atol=1e-5)


def test_numbers_that_happen_to_lie_within_0_and_1_are_no_probabilities():
    """Of two logits on a few images this is no rarity."""
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(4)(inputs))  # of any images it makes small numbers
    ending = layers.Dense(3, kernel_initializer=keras.initializers.RandomUniform(0, 1e-3))
    ending.build((None, 4))
    ending.bias.assign([0.2, 0.5, 0.7])
    net = subclassed(keras.Model(inputs, x), ending)
    assert ((answers(net, X) > 0) & (answers(net, X) < 1)).all()
    heads.refuse_probabilities("student", net)
    zeros = subclassed(layers.Dense(3, kernel_initializer="zeros", use_bias=False))
    heads.refuse_probabilities("student", zeros)
    before = [np.array(v) for v in net.weights]
    for now, old in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(now, old)


def test_a_model_that_cannot_be_asked_is_told_of():
    class Picky(layers.Layer):
        def call(self, x):
            if tf.executing_eagerly():
                raise TypeError("not on Thursdays")
            return x

    with pytest.raises(ValueError, match=r"`m\.keras` must run on random images.*not on Thursdays"):
        heads.refuse_probabilities("m.keras", sequential(dense(), Picky()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_probabilities_in_half_precision_are_recognised(policy):
    model = subclassed(layers.Dense(50, dtype=policy), ops.softmax)
    with pytest.raises(ValueError, match="random images") as caught:
        heads.refuse_probabilities("teacher", model)
    heads.refuse_probabilities("teacher", mended(model, str(caught.value)))


def test_a_model_without_weights_has_no_head():
    model = keras.Sequential([keras.Input((6,)), layers.ReLU()], name="net")
    with pytest.raises(ValueError, match="Model 'net' has no layer with weights"):
        heads.head(model)


def test_a_model_without_layers_has_no_last_one():
    with pytest.raises(ValueError, match="Model 'net' has no layers"):
        heads.last_layer(keras.Sequential(name="net"))
