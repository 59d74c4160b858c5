"""Hints, attention and information: the sheet, loops, invariances."""

import math

import numpy as np
import pytest
from formula_cases import value_and_gradient

from kd_keras import losses

rng = np.random.default_rng(0)

HINT = np.array([[[[1.0, 2], [0, 1]], [[0, 1], [2, 0]]]])
REGRESSED = np.array([[[[1.0, 1], [0, 0]], [[1, 1], [0, 0]]]])


def test_hints_on_the_sheet():
    np.testing.assert_allclose(losses.hint_distance(REGRESSED, HINT), [3.5])
    np.testing.assert_allclose(losses.mean_squared_difference(REGRESSED, HINT), [0.875])


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 4, 2)])
def test_hints_match_the_loops(shape):
    student, teacher = rng.normal(size=(2, *shape))
    sums = [
        sum((a - b) ** 2 for a, b in zip(s.ravel(), t.ravel(), strict=True))
        for s, t in zip(student, teacher, strict=True)
    ]
    size = math.prod(shape[1:])
    np.testing.assert_allclose(losses.hint_distance(student, teacher), np.array(sums) / 2)
    got = losses.mean_squared_difference(student, teacher)
    np.testing.assert_allclose(got, np.array(sums) / size)


def test_the_gradient_of_a_hint_is_the_difference():
    student, teacher = rng.normal(size=(2, 3, 2, 2, 2))
    _, gradient = value_and_gradient(lambda s: losses.hint_distance(s, teacher), student)
    np.testing.assert_allclose(gradient, student - teacher, rtol=1e-12)


def test_the_cosine_sees_directions_alone_place_by_place():
    student = np.array([[[[3.0, 4.0], [1.0, 0.0]]]])
    teacher = np.array([[[[0.0, 9.0], [-5.0, 0.0]]]])
    np.testing.assert_allclose(losses.cosine_distance(student, teacher), [(0.2 + 2.0) / 2])
    student, teacher = rng.normal(size=(2, 3, 2, 2, 4))
    slow = [
        np.mean([1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs])
        for pairs in (
            list(zip(s.reshape(-1, 4), t.reshape(-1, 4), strict=True))
            for s, t in zip(student, teacher, strict=True)
        )
    ]
    for factor in (1.0, 1e-3, 1e6):
        got = losses.cosine_distance(factor * student, teacher / factor)
        np.testing.assert_allclose(got, slow, rtol=1e-9)


def test_the_gradient_of_the_cosine_turns_the_student_and_does_not_lengthen_it():
    student, teacher = rng.normal(size=(2, 5, 3))
    _, gradient = value_and_gradient(lambda s: losses.cosine_distance(s, teacher), student)
    np.testing.assert_allclose(np.sum(gradient * student, axis=-1), 0, atol=1e-12)
    ours, theirs = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (student, teacher))
    cosines = np.sum(ours * theirs, axis=-1, keepdims=True)
    want = (cosines * ours - theirs) / np.linalg.norm(student, axis=-1, keepdims=True)
    np.testing.assert_allclose(gradient, want, rtol=1e-9)


def test_the_distance_of_a_batch_is_one_root_over_all_entries():
    student, teacher = rng.normal(size=(2, 3, 2, 4))
    shares = losses.batch_distance(student, teacher)
    np.testing.assert_allclose(np.mean(shares), np.linalg.norm(student - teacher))
    regressed, deepest = [[1.0, 1, 2], [0, 3, 3]], [[1.0, 2, 2], [0, 3, 4]]
    np.testing.assert_allclose(losses.batch_distance(regressed, deepest), np.sqrt([2, 2]))
    _, gradient = value_and_gradient(lambda s: losses.batch_distance(s, teacher), student)
    want = len(student) * (student - teacher) / np.linalg.norm(student - teacher)
    np.testing.assert_allclose(gradient, want, rtol=1e-9)


def test_attention_on_the_sheet():
    student = np.arange(8.0).reshape(1, 2, 2, 2) / 4
    teacher = np.array([[[[1.0, 0], [0, 2]], [[1, 1], [0, 0]]]])
    got = losses.attention_difference(student, teacher)
    np.testing.assert_allclose(got, [0.34538669], atol=5e-9)


def slow_attention(features):
    height, width, channels = features.shape
    places = [
        sum(features[i, j, c] ** 2 for c in range(channels)) / channels
        for i in range(height)
        for j in range(width)
    ]
    length = math.sqrt(sum(x * x for x in places))
    return [x / length for x in places]


def test_attention_matches_the_loops_for_other_channels_too():
    student, teacher = rng.normal(size=(3, 2, 3, 5)), rng.normal(size=(3, 2, 3, 2))
    slow = [
        np.mean((np.array(slow_attention(s)) - slow_attention(t)) ** 2)
        for s, t in zip(student, teacher, strict=True)
    ]
    np.testing.assert_allclose(losses.attention_difference(student, teacher), slow)


def test_attention_sees_neither_scale_nor_sign_nor_the_order_of_channels():
    features = rng.normal(size=(2, 3, 3, 4))
    for same in (5 * features, -features, features[..., ::-1]):
        np.testing.assert_allclose(
            losses.attention_map(same), losses.attention_map(features), rtol=1e-9
        )


def test_a_dead_map_attends_to_nothing():
    value, gradient = value_and_gradient(losses.attention_map, np.zeros((1, 2, 2, 3)))
    assert not value.any()
    assert not gradient.any()


def test_information_on_the_sheet():
    got = losses.gaussian_nll(np.array([[1.0]]), np.array([[3.0]]), variance=5.0)
    np.testing.assert_allclose(got, [1.20471896], atol=5e-9)


def test_information_matches_the_loops():
    mean, target = rng.normal(size=(2, 2, 3, 2, 4))
    variance = np.array([0.5, 1.0, 2.0, 7.0])
    slow = [
        np.mean(
            [
                0.5 * ((m[i, j, c] - t[i, j, c]) ** 2 / variance[c] + math.log(variance[c]))
                for i in range(3)
                for j in range(2)
                for c in range(4)
            ]
        )
        for m, t in zip(mean, target, strict=True)
    ]
    np.testing.assert_allclose(losses.gaussian_nll(mean, target, variance=variance), slow)


def test_the_likeliest_variance_is_the_mean_squared_error():
    mean, target = rng.normal(size=(2, 1, 50))
    error = np.mean((mean - target) ** 2)
    near = [float(losses.gaussian_nll(mean, target, variance=error * f)[0]) for f in (0.9, 1, 1.1)]
    assert near[1] < min(near[0], near[2])
