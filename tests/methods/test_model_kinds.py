"""Every method of the registry trains students and teachers of every kind.

Models are made once: what a test has trained of them is nothing to another.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd
from kd_keras.methods import METHODS
from kd_keras.models.tapped import Tapped

X = np.random.default_rng(0).uniform(size=(4, 8, 8, 1)).astype("float32")
Y = np.array([0, 1, 2, 1])
SETTINGS = {"subclass": {"subclasses": 2}, "byot": {"deployed": "stage2"}}
LOGITS = {"subclass": 6}


def parts(width, logits):
    return [
        layers.Conv2D(width, 3, strides=2, padding="same", activation="tanh", name="stage1"),
        layers.Conv2D(width + 1, 3, padding="same", activation="tanh", name="stage2"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dense(width + 2, activation="tanh", name="embedding"),
        layers.Dense(logits, name="logits"),
    ]


class Own(keras.Model):
    """Of code of one's own; `first` is what it does to its images."""

    def __init__(self, width, logits, first="keras", **kwargs):
        super().__init__(**kwargs)
        self.settings = {"width": width, "logits": logits, "first": first}
        self.parts = parts(width, logits)
        self.first = {"keras": keras.ops.abs, "tensorflow": tf.abs}[first]

    def call(self, x):
        x = self.first(x)
        for part in self.parts:
            x = part(x)
        return x


@keras.saving.register_keras_serializable("kd_keras_tests")
class Written(Own):
    """With a configuration, so that it can be saved and made anew."""

    def get_config(self):
        return {**super().get_config(), **self.settings}


@functools.cache
def sequential(width, logits):
    return keras.Sequential([keras.Input((8, 8, 1)), *parts(width, logits)])


@functools.cache
def subclassed(width, logits, first="keras", kind=Own):
    model = kind(width, logits, first)
    model(X)
    return model


def of_tensors(width, logits, kind=Own):
    """Of more than Keras' layers and operations."""
    return subclassed(width, logits, "tensorflow", kind)


def distiller_of(name, make, taught_by=None, **knobs):
    keras.utils.set_random_seed(0)
    method = kd.methods.get(name, **{**SETTINGS.get(name, {}), **knobs})
    logits = LOGITS.get(name, 3)
    student, teacher = make(2, logits), (taught_by or make)(4, logits)
    return kd.Distiller(student=student, teacher=teacher, method=method, teacher_cache="off")


def train(distiller):
    """One step, which must change the student."""
    distiller.compile("sgd", run_eagerly=True)
    weights = distiller.student.trainable_weights
    before = [np.array(v) for v in weights]
    distiller.fit(X, Y, batch_size=4, verbose=0)
    assert any(np.any(v != old) for v, old in zip(weights, before, strict=True))
    return distiller


def check_deployed(distiller):
    """What is deployed answers as the method says, with the student's weights."""
    want = distiller.method.deployed_logits(distiller.extractor(X, training=False))
    np.testing.assert_allclose(distiller.deployed(X, training=False), want, rtol=1e-4, atol=1e-5)
    ours = {id(v) for v in distiller.deployed.weights}
    assert ours & {id(v) for v in distiller.student.weights}
    return want


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_of_every_kind(name):
    """Functional models train in every other test of a method."""
    for make, taught_by in ((sequential, subclassed), (subclassed, sequential)):
        distiller = train(distiller_of(name, make, taught_by))
        if distiller.method.changes_deployed:
            check_deployed(distiller)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cid", "subclass", "byot"])
def test_what_is_deployed_is_made_of_layers_or_holds_the_model(name, tmp_path):
    path = tmp_path / "model.keras"
    for first, holds in (("keras", 0), ("tensorflow", 1)):
        make = functools.partial(subclassed, first=first, kind=Written)
        distiller = distiller_of(name, make)
        want = check_deployed(distiller)
        assert sum(isinstance(x, Tapped) for x in distiller.deployed.layers) == holds
        distiller.deployed.save(path)
        loaded = keras.models.load_model(path)
        np.testing.assert_allclose(loaded(X), want, rtol=1e-4, atol=1e-5)


def test_methods_act_on_taps_of_nested_models():
    def nested(width, logits):
        *body, last = parts(width, logits)
        inner = keras.Sequential([keras.Input((8, 8, 1)), *body], name="inner")
        return keras.Sequential([keras.Input((8, 8, 1)), inner, last])

    taps = {"student_tap": "inner/stage1", "teacher_tap": "inner/stage2"}
    check_deployed(distiller_of("cid", nested, **taps))
    train(distiller_of("sftn", nested, **taps))


# methods that make models of the student's or the teacher's layers: of code of one's own that takes
# a configuration, or a `call` of which a graph can be made
ANEW = ("born_again", "sftn", "subclass_baseline", "simkd", "dml")


@pytest.mark.slow
def test_code_of_which_no_model_can_be_made_is_refused_before_training():
    for name in ANEW:
        kind = METHODS[name].__name__
        with pytest.raises(ValueError, match=rf"^{kind} builds.*`call` of .* Keras' layers and"):
            distiller_of(name, of_tensors)
    train(distiller_of("simkd", of_tensors, sequential))  # of the student nothing is made
    train(distiller_of("born_again", functools.partial(of_tensors, kind=Written)))
