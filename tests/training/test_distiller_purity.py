"""What training and testing must leave alone, and how often they run each model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd


def snapshot(model):
    return [np.array(v) for v in model.variables]


def unchanged(model, before):
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)


def test_evaluate_is_the_student_alone_and_changes_nothing(examples, forgetful, linear_teacher):
    x, y = examples
    student, teacher = forgetful(), linear_teacher()
    distiller = kd.Distiller(student=student, teacher=teacher)
    distiller.compile("adam", metrics=["accuracy"])
    distiller.fit(x, y, batch_size=8, verbose=0)
    measured = {id(v) for metric in distiller.metrics for v in metric.variables}
    kept = [v for v in distiller.variables if id(v) not in measured]
    before, calls = [np.array(v) for v in kept], teacher.calls
    logs = distiller.evaluate(x, y, batch_size=5, verbose=0, return_dict=True)
    assert teacher.calls == calls
    for variable, old in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable, old, err_msg=variable.path)
    logits = student.predict(x, verbose=0)
    loss = np.mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
    accuracy = np.mean(np.argmax(logits, axis=1) == y)
    assert logs == pytest.approx(
        {"loss": loss, "student_loss": loss, "accuracy": accuracy}, rel=1e-5
    )
    np.testing.assert_array_equal(distiller.predict(x, verbose=0), logits)


@pytest.mark.parametrize("teacher_cache", ["auto", "off"])
def test_fit_leaves_the_teacher_as_it_was(examples, mlp, forgetful, teacher_cache):
    x, y = examples
    teacher = forgetful(1)
    teacher.layers[0].trainable = False
    before, flags = snapshot(teacher), [v.trainable for v in teacher.variables]
    distiller = kd.Distiller(student=mlp(0), teacher=teacher, teacher_cache=teacher_cache)
    distiller.compile(keras.optimizers.Adam(0.1))
    distiller.fit(x, y, batch_size=5, epochs=3, verbose=0)
    unchanged(teacher, before)
    assert [v.trainable for v in teacher.variables] == flags
    theirs = {id(v) for v in teacher.variables}
    assert not theirs & {id(v) for v in distiller.variables}
    assert teacher not in list(distiller._flatten_layers())
    assert not theirs & {id(v) for v in distiller.optimizer.variables}


class CountingLayer(layers.Layer):
    """Counts how often Python runs it: a forward pass when eager, a trace in a graph."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


@pytest.mark.parametrize("taps", [("logits",), ("embedding", "logits")])
def test_the_student_runs_once_a_step(examples, mlp, taps):
    class Both(kd.methods.KD):
        student_taps = taps

    x, y = examples
    count = CountingLayer()
    student = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, name="embedding"), count, layers.Dense(3)]
    )
    distiller = kd.Distiller(student=student, teacher=mlp(1), method=Both())
    distiller.compile("sgd", run_eagerly=True)
    before = count.calls
    distiller.fit(x, y, batch_size=4, epochs=3, verbose=0)
    assert count.calls == before + 4 * 3
