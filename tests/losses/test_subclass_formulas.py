"""Subclasses: the sheet, loops, layout."""

import math

import numpy as np
import pytest
from formula_cases import softmax

from kd_keras import losses

rng = np.random.default_rng(0)

V = np.array([[2.0, 0, 1, -1], [0, 1, 3, 2], [-1, 0, 0, 5]])
STUDENT = np.array([[1.0, 0, 1, 0], [0, 0, 2, 2], [0, 0, 1, 3]])
Y = np.array([0, 1, 1])


def slow_spread(v, temperature):
    n, k = v.shape
    scaled = [
        [(x - row.mean()) / math.sqrt(((row - row.mean()) ** 2).sum() / k + 1e-9) for x in row]
        for row in v
    ]
    terms = []
    for a in scaled:
        total = sum(
            math.exp(sum(x * y for x, y in zip(a, b, strict=True)) / (k * temperature))
            for b in scaled
        )
        terms.append(math.log(total) - 1 / temperature - math.log(n))
    return terms


def test_class_logits_on_the_sheet():
    got = losses.class_logits(V, subclasses=2)
    want = [[2.12692801, 1.12692801], [1.31326169, 3.31326169], [0.31326169, 5.00671535]]
    np.testing.assert_allclose(got, want, atol=5e-9)
    np.testing.assert_allclose(np.mean(losses.cross_entropy(Y, got)), 0.14976769, atol=5e-9)


def test_a_classs_probability_is_the_sum_of_its_subclasses_which_stand_together():
    v = rng.normal(size=(5, 6))
    p = softmax(np.asarray(losses.class_logits(v, subclasses=3)))
    np.testing.assert_allclose(p, softmax(v).reshape(5, 2, 3).sum(axis=2), rtol=1e-9)


@pytest.mark.parametrize(("temperature", "want"), [(1.0, -0.61682549), (0.5, -0.87994113)])
def test_the_spread_on_the_sheet(temperature, want):
    got = losses.subclass_spread(V, temperature=temperature)
    np.testing.assert_allclose(np.mean(got), want, atol=5e-9)
    np.testing.assert_allclose(got, slow_spread(V, temperature), rtol=1e-9)


def test_the_spread_of_examples_that_are_alike_and_of_two_that_have_nothing_in_common():
    same = losses.subclass_spread(np.tile([[1.0, 2, 0, 4]], (3, 1)))
    np.testing.assert_allclose(same, 0.0, atol=2e-9)
    apart = losses.subclass_spread(np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]]))
    np.testing.assert_allclose(apart, math.log((math.e + 1) / 2) - 1, atol=5e-9)
    np.testing.assert_allclose(apart, -0.37988549, atol=5e-9)


def test_the_spread_sees_neither_shift_nor_scale_of_an_example():
    v = rng.normal(size=(4, 6))
    moved = v * np.array([[1.0], [2], [3], [4]]) + np.array([[5.0], [-5], [0], [1]])
    np.testing.assert_allclose(losses.subclass_spread(moved), losses.subclass_spread(v), rtol=1e-6)


def test_the_teachers_loss_is_the_sum():
    got = np.mean(losses.subclass_teacher_loss(Y, V, subclasses=2, weight=2.0))
    np.testing.assert_allclose(got, 0.14976769 - 2 * 0.61682549, atol=2e-8)


def test_the_students_loss_on_the_sheet():
    t = 4.0
    soft = losses.soft_cross_entropy(STUDENT, V, student_temperature=t, teacher_temperature=t)
    hard = losses.cross_entropy(Y, losses.class_logits(STUDENT, subclasses=2))
    soft, hard = t**2 * np.mean(soft), np.mean(hard)
    np.testing.assert_allclose(
        [soft, hard, 0.5 * soft + 0.5 * hard], [21.05928043, 0.30138160, 10.68033102], atol=5e-9
    )
