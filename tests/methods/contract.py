"""Shared by the contract tests: every loss of the registry, and random features for it."""

import keras
import numpy as np
import tensorflow as tf

from kd_keras import methods
from kd_keras.methods import METHODS

# under which nothing is left to chance, which XLA draws otherwise
NO_DRAWS = {"crd": {"examples": 16}}
# where the default is for other models than those of these tests
SETTINGS = {"subclass": {"subclasses": 1}, "reviewkd": {"warm_up": 1.0}}
CLASSES = 5
# student and teacher differ in every width, as they do in life
WIDTHS = {"student": {"embedding": 6, "stage": 3}, "teacher": {"embedding": 9, "stage": 4}}

LOSSES = {
    **{name: kind for name, kind in METHODS.items() if issubclass(kind, methods.Method)},
    "born_again": methods.BornAgainKD,
    "eskd": methods.EarlyStoppedKD,
    "fitnets": methods.FitNetsKD,
    "subclass": methods.SubclassKD,
}


def tap_shape(role, tap):
    if tap == "logits":
        return (CLASSES,)
    return (WIDTHS[role]["embedding"],) if tap == "embedding" else (4, 4, WIDTHS[role]["stage"])


def features_of(method, role, value):
    """Features `{tap: tensor}`; `value(shape)` makes each, the batch comes first in the shape."""
    taps = getattr(method, f"{role}_taps")
    return {tap: tf.constant(value(tap_shape(role, tap)), tf.float32) for tap in taps}


def built(name, **settings):
    keras.utils.set_random_seed(0)
    return build(made(name, **settings))


def made(name, **settings):
    return LOSSES[name](**SETTINGS.get(name, {}), **settings)


def build(method):
    shapes = [
        {tap: (None, *tap_shape(role, tap)) for tap in getattr(method, f"{role}_taps")}
        for role in ("student", "teacher")
    ]
    if not method.built:  # one that comes from a configuration is
        method.build(*shapes)
        method.built = True
    return method


def random_batch(method, n=8, seed=0):
    """Random features of both, and everything that may be known of `n` examples."""
    rng = np.random.default_rng(seed)
    student, teacher = (
        features_of(method, role, lambda shape: rng.normal(size=(n, *shape)))
        for role in ("student", "teacher")
    )
    known = {"label": tf.range(n) % CLASSES, "index": tf.range(n), "image": tf.zeros((n, 4, 4, 1))}
    return student, teacher, known


def loss_and_gradients(method, student, teacher, known):
    with tf.GradientTape() as tape:
        tape.watch(student)
        loss = method(student, teacher, known, training=True)
        total = tf.reduce_sum(loss)
    gradients = tape.gradient(total, student, unconnected_gradients="zero")
    return np.asarray(loss), {tap: np.asarray(gradient) for tap, gradient in gradients.items()}
