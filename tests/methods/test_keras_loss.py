"""Distillation losses of Keras as methods: the same values, with weights, in Distiller and Sum."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.distillation import DistillationLoss, FeatureDistillation, LogitsDistillation

import kd_keras as kd

ZT = np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]], "float32")
ZS = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]], "float32")


def divergence(temperature=4.0):
    return LogitsDistillation(temperature, keras.losses.KLDivergence())


@keras.saving.register_keras_serializable("kd_keras_tests")
class Gram(DistillationLoss):
    """A term over the whole batch: how the examples relate."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        ours, theirs = (x @ keras.ops.transpose(x) for x in (student_outputs, teacher_outputs))
        return keras.ops.mean(keras.ops.square(ours - theirs))

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class Each(DistillationLoss):
    """One number for each example."""

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        return keras.ops.sum(keras.ops.abs(student_outputs - teacher_outputs), axis=-1)


def distiller_of(method, student, teacher, **options):
    distiller = kd.Distiller(student=student, teacher=teacher, method=method, **options)
    distiller.compile(keras.optimizers.SGD(0.1))
    return distiller


def test_each_example_has_its_own_loss_and_their_mean_is_keras_own():
    method = kd.methods.KerasLoss(divergence())
    got = np.asarray(method({"logits": ZS}, {"logits": ZT}, {}))
    assert got.shape == (2,)
    np.testing.assert_allclose(got.mean(), float(divergence().compute_loss(ZT, ZS)), rtol=1e-6)
    np.testing.assert_allclose(got.mean(), 0.45348, atol=1e-5)  # as the sheet's
    ours = kd.methods.KD(4.0)({"logits": ZS}, {"logits": ZT}, {})
    np.testing.assert_allclose(got, ours, atol=1e-5)


@pytest.mark.parametrize("loss", [Gram(), Each()])
def test_a_loss_of_ones_own_has_its_own_mean(loss):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 3)).astype("float32")
    method = kd.methods.KerasLoss(loss)
    got = np.asarray(method({"logits": student}, {"logits": teacher}, {}))
    assert got.shape == (5,)
    np.testing.assert_allclose(got.mean(), np.mean(loss.compute_loss(teacher, student)), rtol=1e-5)
    assert (np.ptp(got) == 0) == isinstance(loss, Gram)  # the batch's, or the example's own


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_learns_as_kd_does_and_weights_of_zero_leave_an_example_out(mlp, examples, compiled):
    x, y = examples
    weight = (np.arange(16) % 2).astype("float32")
    found = []
    for method in (divergence(2.0), kd.methods.KD(2.0)):
        student = mlp(0)
        distiller = kd.Distiller(student=student, teacher=mlp(1), method=method, alpha=0.5)
        distiller.compile(keras.optimizers.SGD(0.1), jit_compile=compiled)
        fit = {"epochs": 2, "batch_size": 4, "shuffle": False, "verbose": 0}
        distiller.fit(x, y, sample_weight=weight, **fit)
        found.append(student.get_weights())
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_examples_cannot_be_weighed_by_a_loss_of_the_batch(mlp, examples):
    x, y = examples
    distiller = distiller_of(Gram(), mlp(0), mlp(1))
    distiller.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"Gram returns one number per batch.*cannot be weighted"):
        distiller.fit(x, y, sample_weight=np.ones(16), verbose=0)


def test_a_loss_of_features_sees_the_layers_that_it_names(mlp, examples):
    x, y = examples
    loss = FeatureDistillation("mse", "embedding", "embedding")
    student, teacher = mlp(0), mlp(1)
    distiller = distiller_of(loss, student, teacher, alpha=0.0)
    before = float(distiller.fit(x, y, batch_size=16, verbose=0).history["distillation_loss"][0])
    start = mlp(0)
    features = [keras.Model(m.input, m.get_layer("embedding").output) for m in (start, teacher)]
    want = np.mean((features[0](x) - features[1](x)) ** 2)
    np.testing.assert_allclose(before, want, rtol=1e-4)
    assert (distiller.method.student_taps, distiller.method.teacher_taps) == (("embedding",),) * 2
    with pytest.raises(ValueError, match=r"cannot compare 'embedding' of the student.*\(None, 4\)"):
        distiller_of(loss, mlp(width=4), teacher)


def test_in_a_sum_beside_a_method_of_the_library():
    both = kd.methods.Sum({"theirs": divergence(), "ours": kd.methods.KD(1.0)}, {"theirs": 0.5})
    got = both({"logits": ZS}, {"logits": ZT}, {})
    parts = [
        part({"logits": ZS}, {"logits": ZT}, {})
        for part in (kd.methods.KerasLoss(divergence()), kd.methods.KD(1.0))
    ]
    np.testing.assert_allclose(got, 0.5 * parts[0] + parts[1], rtol=1e-5)


@pytest.mark.parametrize("loss", [divergence(3.0), FeatureDistillation("mse"), Gram()])
def test_it_comes_back_from_its_configuration(loss):
    method = kd.methods.KerasLoss(loss)
    kept = json.loads(json.dumps(keras.saving.serialize_keras_object(method)))
    twin = keras.saving.deserialize_keras_object(kept)
    views = {"logits": ZS}, {"logits": ZT}
    np.testing.assert_allclose(twin(*views, {}), method(*views, {}))


@pytest.mark.parametrize(
    ("loss", "warned"),
    [
        (lambda: LogitsDistillation(4.0), True),
        (lambda: LogitsDistillation(4.0, "categorical_crossentropy"), True),
        (lambda: LogitsDistillation(4.0, keras.losses.CategoricalCrossentropy()), True),
        (lambda: LogitsDistillation(4.0, "mse"), False),
        (divergence, False),
    ],
)
def test_logits_that_are_taken_for_probabilities_are_warned_of(mlp, loss, warned):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        distiller_of(loss(), mlp(0), mlp(1))
    said = [str(one.message) for one in told if "passes logits to a loss" in str(one.message)]
    assert len(said) == warned
    assert all("loss=keras.losses.KLDivergence()" in sentence for sentence in said)


def test_what_is_no_loss_is_refused(mlp):
    with pytest.raises(ValueError, match=r"a keras\.distillation loss\. Received: "):
        distiller_of(keras.losses.KLDivergence(), mlp(0), mlp(1))
    with pytest.raises(ValueError, match=r"`loss` must be a keras.distillation.DistillationLoss"):
        kd.methods.KerasLoss("mse")
    with pytest.raises(ValueError, match=r"`methods\['a'\]` must be a Method"):
        kd.methods.Sum({"a": tf.constant(0)})
