"""What a Distiller refuses, before the first step and with both values in the sentence."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import kd_keras as kd


def distiller_of(student, teacher, **settings):
    distiller = kd.Distiller(student=student, teacher=teacher, **settings)
    distiller.compile("sgd")
    return distiller


def ending(*last):
    return keras.Sequential([keras.Input((6,)), layers.Dense(3), *last], name="net")


class Probabilities(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.classify = layers.Dense(3)

    def call(self, x):
        return ops.softmax(self.classify(x))


def subclassed():
    model = Probabilities()
    model(np.zeros((1, 6), "float32"))
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: ending(layers.Dense(3, activation="softmax")),
        lambda: ending(layers.Softmax()),
        lambda: ending(layers.Activation("softmax")),
        subclassed,
    ],
    ids=["dense", "layer", "activation", "subclassed"],
)
def test_probabilities_are_refused_of_student_and_of_teacher(mlp, make):
    with pytest.raises(ValueError, match=r"`student` must return logits.*'net'.*To fix it"):
        kd.Distiller(student=make(), teacher=mlp())
    with pytest.raises(ValueError, match=r"`teacher` must return logits.*'net'.*To fix it"):
        kd.Distiller(student=mlp(), teacher=make())


@pytest.mark.parametrize(
    "teacher",
    [
        lambda mlp: mlp(classes=4),
        lambda mlp: kd.LiveTeacher(mlp(classes=4)),
        lambda mlp: kd.CachedTeacher({"logits": np.zeros((16, 4))}),
    ],
)
def test_other_classes_are_refused(mlp, teacher):
    with pytest.raises(ValueError, match="a student with 3 logits and a teacher with 4"):
        kd.Distiller(student=mlp(), teacher=teacher(mlp))


def test_a_student_of_one_logit_or_of_a_map_is_refused(mlp):
    """Softmax over one logit is always 1: the student would learn nothing, without a word."""
    with pytest.raises(ValueError, match=r"`student` must return one logit.*\(None, 1\)"):
        kd.Distiller(student=mlp(classes=1), teacher=mlp(classes=1))
    maps = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(3, 3)])
    with pytest.raises(ValueError, match=r"one logit for each.*\(None, 6, 6, 3\)"):
        kd.Distiller(student=maps, teacher=maps)


class Deep(kd.methods.KD):
    student_taps = ("logits", "embeding")


class Wide(kd.methods.KD):
    teacher_taps = ("logits", "hint")


def test_a_missing_tap_is_refused_with_the_nearest(mlp):
    with pytest.raises(ValueError, match=r"has no tap 'embeding'\. Nearest: embedding"):
        kd.Distiller(student=mlp(), teacher=mlp(), method=Deep())
    with pytest.raises(ValueError, match="has no tap 'hint'"):
        kd.Distiller(student=mlp(), teacher=mlp(), method=Wide())
    ensemble = kd.EnsembleTeacher([mlp()])
    with pytest.raises(ValueError, match=r"taps \['hint'\], but EnsembleTeacher gives"):
        kd.Distiller(student=mlp(), teacher=ensemble, method=Wide())


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan, "0.5", True, lambda epoch: 2.0])
def test_an_alpha_outside_its_range_is_refused_at_first_and_later(mlp, alpha):
    with pytest.raises(ValueError, match=r"`alpha` must lie in \[0, 1\]. Received: alpha="):
        kd.Distiller(student=mlp(), teacher=mlp(), alpha=alpha)
    distiller = kd.Distiller(student=mlp(), teacher=mlp(), alpha=0.5)
    with pytest.raises(ValueError, match=r"`alpha` must lie in \[0, 1\]"):
        distiller.alpha = alpha
    assert distiller.alpha == 0.5


@pytest.mark.parametrize("alpha", [0, 1, 0.25, np.float32(0.25), np.int64(1)])
def test_an_alpha_within_it_is_not(mlp, alpha):
    assert kd.Distiller(student=mlp(), teacher=mlp(), alpha=alpha).alpha == alpha


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student": "mlp"}, "`student` must be a Keras model. Received: str"),
        ({"teacher": "mlp"}, "a teacher source that gives the taps logits. Received: str"),
        ({"method": "kdd"}, "Unknown method 'kdd'. Did you mean 'kd'?"),
        ({"method": 4.0}, "`method` must be a name, a Method, a methods.Sum.*4.0"),
        ({"teacher_cache": "of"}, "Unknown teacher_cache 'of'. Did you mean 'off'?"),
    ],
)
def test_what_is_none_of_its_parts_is_refused(mlp, settings, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        kd.Distiller(**{"student": mlp(), "teacher": mlp(), **settings})


def test_parts_are_given_by_name(mlp):
    with pytest.raises(TypeError, match="positional"):
        kd.Distiller(mlp(), mlp())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            np.arange(16),
            "class numbers from 0 to 2.*13 of 16 labels.*first of them 3 at position 3",
        ),
        (
            np.arange(16) % 3 - 1,
            "6 of 16 labels.*the first of them -1 at position 0",
        ),
        (np.ones((16, 4)) / 4, "over 4 classes, but the student has 3"),
    ],
)
def test_labels_of_other_classes_are_refused(examples, mlp, labels, message):
    with pytest.raises(ValueError, match=message):
        distiller_of(mlp(0), mlp(1)).fit(examples[0], labels, verbose=0)


@pytest.mark.parametrize("alpha", [0.1, kd.schedules.Linear(0.0, 1.0, epochs=3)])
@pytest.mark.parametrize("kind", ["arrays", "dataset", "dict"])
def test_missing_labels_are_refused_where_alpha_asks_for_them(examples, mlp, alpha, kind):
    x, _ = examples
    data = {"arrays": x, "dataset": tf.data.Dataset.from_tensors(x), "dict": {"image": x}}[kind]
    distiller = distiller_of(mlp(0), mlp(1), alpha=alpha)
    with pytest.raises(ValueError, match=r"`alpha` must be 0\. Received: no labels") as caught:
        distiller.fit(data, verbose=0)
    assert repr(alpha) in str(caught.value)


def test_missing_labels_are_refused_where_the_method_asks_for_them(examples, mlp):
    class Labelled(kd.methods.KD):
        needs_labels = True

    distiller = distiller_of(mlp(0), mlp(1), method=Labelled(), alpha=0.0)
    with pytest.raises(ValueError, match="Labelled needs labels"):
        distiller.fit(examples[0], verbose=0)


def test_to_evaluate_takes_labels(examples, mlp):
    with pytest.raises(ValueError, match="needs labels"):
        distiller_of(mlp(0), mlp(1), alpha=0.0).evaluate(examples[0], verbose=0)


def test_a_student_that_is_frozen_all_over_is_refused(examples, mlp):
    student = mlp(0)
    student.trainable = False
    with pytest.raises(ValueError, match="no trainable weights: every layer is frozen"):
        distiller_of(student, mlp(1)).fit(*examples, verbose=0)


def test_a_loss_on_probabilities_is_refused(mlp):
    distiller = kd.Distiller(student=mlp(0), teacher=mlp(1))
    loss = "sparse_categorical_crossentropy"
    with pytest.raises(ValueError, match=f"expects probabilities.*loss='{loss}'"):
        distiller.compile("sgd", loss=loss)


def test_a_student_that_was_never_called_is_refused(mlp):
    with pytest.raises(ValueError, match="Call the model once on a batch of images"):
        kd.Distiller(student=keras.Sequential([layers.Dense(3)]), teacher=mlp())


def test_stored_rows_of_another_data_set_are_refused(examples, mlp):
    stored = kd.CachedTeacher({"logits": np.zeros((15, 3), "float32")})
    with pytest.raises(ValueError, match="have 15 rows, but `x` has 16"):
        distiller_of(mlp(0), stored).fit(*examples, verbose=0)


def test_a_pipeline_for_stored_rows_must_yield_the_index(examples, mlp):
    stored = kd.CachedTeacher({"logits": np.zeros((16, 3), "float32")})
    dataset = tf.data.Dataset.from_tensors(examples)
    with pytest.raises(ValueError, match="finds its rows by `index`"):
        distiller_of(mlp(0), stored).fit(dataset, verbose=0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((0, 6)), np.zeros(0, int), r"`x` must hold images\. Received: none"),
        (
            np.zeros((4, 5)),
            np.zeros(4, int),
            r"the size the student takes, \(6,\).*images of \(5,\)",
        ),
        (np.zeros((4, 6)), np.zeros(3, int), r"the same length\. Received: 4 images, 3 labels"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_before_the_teacher_runs(x, y, message):
    def net():
        return keras.Sequential([keras.Input((6,)), layers.Dense(3)])

    distiller = distiller_of(net(), net())
    with pytest.raises(ValueError, match=message):
        distiller.fit(x, y, verbose=0)


def test_the_student_cannot_be_its_own_teacher():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="and `student` must be different models"):
        kd.Distiller(student=model, teacher=model)


def test_batches_of_one_are_refused_where_the_method_compares_examples(mlp, examples):
    distiller = distiller_of(mlp(0), mlp(1), method="rkd")
    one = tf.data.Dataset.from_tensor_slices(examples)
    for data, batch in ((examples, 1), ((one.batch(1, drop_remainder=True),), None)):
        with pytest.raises(ValueError, match=r"`batch_size` must be at least 2\. Received: 1"):
            distiller.fit(*data, batch_size=batch)
