"""Features, classes and context of CID: the sheet, loops, classes of one."""

import math

import numpy as np
from formula_cases import FS, FT, LABELS, softmax, value_and_gradient

from kd_keras import losses

rng = np.random.default_rng(0)


def test_relative_distance_on_the_sheet():
    regressed = np.array([[1.0, 1, 2], [0, 3, 3], [1, 0, 0], [1, 0, 0]])
    got = np.asarray(losses.relative_distance(regressed, FT))
    np.testing.assert_allclose(got, [1 / 9, 1 / 25, 1 / 4, 1 / 2])
    np.testing.assert_allclose(got.mean(), 0.22527778, atol=5e-9)


def test_relative_distance_does_not_see_the_scale_of_both():
    student, teacher = rng.normal(size=(2, 3, 4))
    np.testing.assert_allclose(
        losses.relative_distance(9 * student, 9 * teacher),
        losses.relative_distance(student, teacher),
        rtol=1e-9,
    )


def slow_classes(student, teacher, labels):
    terms = []
    for k in sorted(set(labels.tolist())):
        members = np.flatnonzero(labels == k)
        if len(members) < 2:
            continue
        total = 0.0
        for i in members:
            for j in members:
                cosines = [
                    f[i] @ f[j] / math.sqrt(f[i] @ f[i]) / math.sqrt(f[j] @ f[j])
                    for f in (student, teacher)
                ]
                total += (cosines[0] - cosines[1]) ** 2
        terms.append(total / len(members) ** 2)
    return sum(terms) / len(terms) if terms else 0.0


def test_classes_on_the_sheet():
    got = np.mean(losses.class_similarity_difference(FS, FT, LABELS))
    np.testing.assert_allclose(got, 0.08749743, atol=5e-9)


def test_classes_match_the_loops():
    student, teacher = rng.normal(size=(8, 3)), rng.normal(size=(8, 5))
    for labels in ([0, 1, 2, 0, 1, 0, 3, 0], [0] * 8, [0, 1] * 4):
        got = np.mean(losses.class_similarity_difference(student, teacher, np.array(labels)))
        np.testing.assert_allclose(got, slow_classes(student, teacher, np.array(labels)), rtol=1e-9)


def test_classes_of_one_are_not_there():
    student, teacher = rng.normal(size=(2, 4, 3))
    value, gradient = value_and_gradient(
        lambda s: losses.class_similarity_difference(s, teacher, np.arange(4)), student
    )
    assert not value.any()
    assert not gradient.any()
    alone = losses.class_similarity_difference(student, teacher, np.array([0, 0, 0, 1]))
    without = losses.class_similarity_difference(student[:3], teacher[:3], np.zeros(3, int))
    np.testing.assert_allclose(3 * np.mean(alone) + np.mean(alone), 4 * np.mean(without))


def test_context_on_the_sheet():
    teacher = np.array([[2.0, 0], [1, 0], [0, 3], [1, 1]])
    weights = losses.true_class_probability(teacher, LABELS, temperature=4.0)
    np.testing.assert_allclose(weights, [0.62245933, 0.56217650, 0.67917870, 0.5], atol=5e-9)
    sums, totals = losses.weighted_class_sums(FS, LABELS, weights, classes=2)
    context = np.asarray(sums) / np.asarray(totals)
    np.testing.assert_allclose(context, [[1, 0.92730813], [0, 2]], atol=5e-9)
    expected = softmax(np.array([[1.0, 0], [0, 1], [0, 2], [2, 0]]) / 4.0) @ context
    want = [
        [0.56217650, 1.39695784],
        [0.43782350, 1.53035029],
        [0.37754067, 1.59501519],
        [0.62245933, 1.33229294],
    ]
    np.testing.assert_allclose(expected, want, atol=5e-9)
