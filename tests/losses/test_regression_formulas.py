"""Regression of logits and of probabilities: the sheet, loops, gradients, invariances."""

import numpy as np
import pytest
import tensorflow as tf
from formula_cases import ZS, ZT, softmax, value_and_gradient

from kd_keras import losses

rng = np.random.default_rng(0)


def slow_logit_regression(student, teacher, centred):
    found = []
    for s, t in zip(student, teacher, strict=True):
        if centred:
            s, t = [z - sum(s) / len(s) for z in s], [z - sum(t) / len(t) for z in t]
        found.append(sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / 2)
    return found


def test_the_sheets_numbers():
    half_sums = np.asarray(losses.logit_regression(ZS, ZT))
    np.testing.assert_allclose(half_sums, [2.0, 1.5])
    np.testing.assert_allclose(half_sums.mean(), 1.75)
    np.testing.assert_allclose(2 * half_sums.mean() / 3, 1.16666667, atol=5e-9)
    centred = losses.logit_regression(ZS, ZT, centred=True)
    np.testing.assert_allclose(np.mean(centred), 1.33333333, atol=5e-9)
    squares = np.mean(losses.probability_regression(ZS, ZT))
    np.testing.assert_allclose([squares, squares**0.5], [0.04923583, 0.22189147], atol=5e-9)


@pytest.mark.parametrize("shape", [(1, 2), (4, 5)])
@pytest.mark.parametrize("centred", [False, True])
def test_logit_regression_matches_the_loops(shape, centred):
    student, teacher = rng.normal(size=(2, *shape))
    got = losses.logit_regression(student, teacher, centred=centred)
    np.testing.assert_allclose(got, slow_logit_regression(student, teacher, centred), rtol=1e-9)


def test_probability_regression_matches_the_loops():
    student, teacher = rng.normal(size=(2, 3, 4))
    p, q = softmax(teacher), softmax(student)
    slow = [sum((q[n, k] - p[n, k]) ** 2 for k in range(4)) / 4 for n in range(3)]
    np.testing.assert_allclose(losses.probability_regression(student, teacher), slow, rtol=1e-9)


def test_the_gradient_of_logit_regression_is_the_difference():
    student, teacher = rng.normal(size=(2, 3, 4))
    _, gradient = value_and_gradient(lambda z: losses.logit_regression(z, teacher), student)
    np.testing.assert_allclose(gradient, student - teacher, rtol=1e-12)


def test_a_shift_is_seen_by_plain_logits_alone():
    student, teacher = rng.normal(size=(2, 3, 4))
    for function, seen in (
        (losses.logit_regression, True),
        (lambda s, t: losses.logit_regression(s, t, centred=True), False),
        (losses.probability_regression, False),
    ):
        moved, still = function(student + 5.0, teacher), function(student, teacher)
        assert np.allclose(moved, still, rtol=1e-9) is not seen


def test_centred_regression_is_soft_targets_at_high_temperature():
    student, teacher = rng.normal(size=(2, 3, 4))
    warm = losses.softened_kl(student, teacher, temperature=1e3)
    cold = losses.logit_regression(student, teacher, centred=True)
    np.testing.assert_allclose(4 * np.asarray(warm), cold, rtol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_confident_logits_stay_finite(dtype):
    student, teacher = np.array([[[0, 200, 0]], [[200, 0, 0]]], dtype)
    value, gradient = value_and_gradient(
        lambda z: losses.probability_regression(z, teacher), student
    )
    np.testing.assert_allclose(value, [2 / 3], rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-12)
    assert tf.as_dtype(dtype) == losses.logit_regression(student, teacher).dtype
