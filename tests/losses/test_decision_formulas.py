"""The teacher's decision as a label: the sheet, loops, ties."""

import numpy as np
from formula_cases import ZT, Y, softmax, value_and_gradient

from kd_keras import losses

ZD = np.array([[2.0, 0, 1], [0, 1, 2]])


def test_the_sheet_and_loops():
    got = losses.decision_cross_entropy(ZD, ZT)
    np.testing.assert_allclose(np.mean(got), 0.90760596, atol=5e-9)
    np.testing.assert_allclose(got, losses.cross_entropy(Y, ZD))
    student, teacher = np.random.default_rng(0).normal(size=(2, 6, 4))
    slow = []
    for s, t in zip(student, teacher, strict=True):
        best = max(range(4), key=lambda k: t[k])
        slow.append(-np.log(softmax(s)[best]))
    np.testing.assert_allclose(losses.decision_cross_entropy(student, teacher), slow)


def test_how_sure_the_teacher_is_does_not_count():
    got = losses.decision_cross_entropy(ZD, 100 * ZT - 3)
    np.testing.assert_array_equal(got, losses.decision_cross_entropy(ZD, ZT))


def test_of_equal_logits_the_first_counts():
    teacher = np.array([[1.0, 5, 5], [2, 2, 2]])
    got = losses.decision_cross_entropy(ZD, teacher)
    np.testing.assert_allclose(got, losses.cross_entropy(np.array([1, 0]), ZD))


def test_the_gradient_is_probability_less_decision():
    _, gradient = value_and_gradient(lambda s: losses.decision_cross_entropy(s, ZT), ZD)
    np.testing.assert_allclose(gradient, softmax(ZD) - np.eye(3)[Y])


def test_a_teacher_without_an_answer_shows():
    teacher = ZT.copy()
    teacher[1, 2] = np.nan
    np.testing.assert_array_equal(
        np.isnan(losses.decision_cross_entropy(ZD, teacher)), [False, True]
    )
