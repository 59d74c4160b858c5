"""Models of every kind as graphs: their twins, and which of their outputs are the logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import kd_keras as kd
from kd_keras.models import graphs

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


class Own(keras.Model):
    """Code of one's own: `does(model, x, training)` says what its `call` does."""

    def __init__(self, does):
        super().__init__(name="own")
        self.does = does
        self.a = layers.Dense(5, name="a")
        self.norm = layers.BatchNormalization(name="norm")
        self.b = layers.Dense(3, name="b")
        self.scale = self.add_weight(shape=(), initializer="ones") if does is by_weight else None

    def call(self, x, training=False):
        return self.does(self, x, training)


def plain(model, x, training):
    return model.b(ops.relu(model.norm(model.a(x), training=training)))


def by_weight(model, x, training):
    return plain(model, x, training) * model.scale


def own(does):
    keras.utils.set_random_seed(0)
    model = Own(does)
    model(X)
    return model


@pytest.mark.parametrize("training", [False, True])
def test_the_twin_of_code_made_of_layers_computes_the_same(training):
    model = own(plain)
    twin = graphs.functional(model)
    assert graphs.functional(model) is twin
    assert {id(v) for v in twin.weights} == {id(v) for v in model.weights}
    for _ in range(2):  # in training the statistics move, once for both
        statistics = [np.array(v) for v in model.norm.non_trainable_weights]
        want = model(X, training=training)
        for variable, before in zip(model.norm.non_trainable_weights, statistics, strict=True):
            variable.assign(before)
        np.testing.assert_allclose(twin(X, training=training), want, rtol=1e-5)


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        (lambda m, x, t: plain(m, tf.abs(x), t), r"only Keras' layers and `keras\.ops`"),
        (lambda m, x, t: plain(m, ops.abs(x) if t else x, t), "a branch on `training`"),
        (lambda m, x, t: plain(m, x, t) * keras.random.normal((3,)), "tensors of its own"),
        (by_weight, "weights or tensors of its own"),
    ],
)
def test_other_code_has_none(does, reason):
    with pytest.raises(graphs.NoGraph, match=reason):
        graphs.functional(own(does))


def both(answers):
    """A model of two outputs, `answers(logits, features)`."""
    inputs = keras.Input((6,))
    features = layers.Dense(5, name="features")(inputs)
    return keras.Model(inputs, answers(layers.Dense(3)(features), features), name="net")


@pytest.mark.parametrize(
    "answers",
    [
        lambda z, f: {"logits": z, "features": f},
        lambda z, f: {"features": f, "logits": z},
        lambda z, f: [z],
    ],
)
def test_logits_are_taken_by_name_from_teacher_student_and_member(answers, examples, mlp):
    model = both(answers)
    view = kd.models.taps.FeatureExtractor(model, ("logits", "features"))
    assert view.shapes == {"logits": (None, 3), "features": (None, 5)}
    want = np.asarray(view(X)["logits"])
    distiller = kd.Distiller(student=model, teacher=both(answers))
    np.testing.assert_allclose(distiller.predict(X, verbose=0), want, rtol=1e-5)
    distiller.compile("sgd", run_eagerly=True)
    distiller.fit(*examples, verbose=0)
    ensemble = kd.models.ensemble([model, mlp()])
    assert ensemble.output_shape == (None, 3)
    assert kd.LiveTeacher(ensemble).shapes == {"logits": (None, 3)}


@pytest.mark.parametrize(
    ("answers", "which", "listed"),
    [
        (lambda z, f: (z, f), 0, r"a tuple of 0 of shape \(None, 3\), 1 of shape \(None, 5\)"),
        (lambda z, f: (f, z), 1, r"a tuple of 0 of shape \(None, 5\)"),
        (lambda z, f: {"answer": z, "features": f}, "answer", r"a dict of 'answer' of shape"),
    ],
)
@pytest.mark.parametrize("kind", ["functional", "own", "wrapped"])
def test_other_outputs_are_listed_and_named(answers, which, listed, kind, mlp):
    model = both(answers)
    if kind != "functional":
        inner = mlp()
        view = kd.models.taps.FeatureExtractor(inner, ("embedding", "logits"))
        step = tf.identity if kind == "wrapped" else (lambda x: x)

        class Two(keras.Model):
            def __init__(self):
                super().__init__(name="net")
                self.inner = inner

            def call(self, x):
                features = self.inner.get_layer("embedding")(step(x))
                return answers(self.inner.get_layer("logits")(features), features)

        model = Two()
        model(X)
        want = view(X)["logits"]
    else:
        want = model(X)[which]
    with pytest.raises(ValueError, match=f"Model 'net' must return its logits.*{listed}") as caught:
        kd.Distiller(student=mlp(1), teacher=model)
    assert "`kd_keras.models.output(model, " in str(caught.value)
    chosen = kd.models.output(model, which)
    np.testing.assert_allclose(chosen(X), want, rtol=1e-5)
    assert {id(v) for v in chosen.weights} == {id(v) for v in model.weights}
    kd.Distiller(student=mlp(1), teacher=chosen)
    with pytest.raises(ValueError, match=r"`which` must be an output of model 'net'.*'nothing'"):
        kd.models.output(model, "nothing")
