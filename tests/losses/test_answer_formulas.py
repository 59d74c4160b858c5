"""Two temperatures, the two parts of soft targets, correlations, standardised logits."""

import math

import numpy as np
import pytest
from formula_cases import ZS, ZT, Y, softmax, value_and_gradient

from kd_keras import losses

rng = np.random.default_rng(0)
# the sheet's tensors with a third row, where columns are compared
ZT3, ZS3 = np.vstack([ZT, [1, 0, 3]]), np.vstack([ZS, [0, 0, 1]])


# --- two temperatures ---


@pytest.mark.parametrize(("temperature", "want"), [(1.0, 0.79761876), (4.0, 1.06855352)])
def test_soft_cross_entropy_of_one_temperature_on_the_sheet(temperature, want):
    both = {"student_temperature": temperature, "teacher_temperature": temperature}
    np.testing.assert_allclose(np.mean(losses.soft_cross_entropy(ZS, ZT, **both)), want, atol=5e-9)


def test_soft_cross_entropy_of_two_temperatures_on_the_sheet():
    got = np.mean(
        losses.soft_cross_entropy(ZS, ZT, student_temperature=1.0, teacher_temperature=4.0)
    )
    p = softmax(ZT / 4.0)
    entropy = -(p * np.log(p)).sum(axis=-1).mean()
    np.testing.assert_allclose([got, got - entropy], [1.12629937, 0.08608856], atol=5e-9)


def test_soft_cross_entropy_matches_the_loops_and_takes_a_map_of_the_targets():
    student, teacher = rng.normal(size=(2, 3, 4))

    def half_even(p):
        return 0.5 * p + 0.125

    slow = []
    for s, t in zip(student, teacher, strict=True):
        p = [math.exp(z / 5) for z in t]
        q = [math.exp(z / 2) for z in s]
        targets = [0.5 * x / sum(p) + 0.125 for x in p]
        slow.append(-sum(a * math.log(b / sum(q)) for a, b in zip(targets, q, strict=True)))
    knobs = {"student_temperature": 2.0, "teacher_temperature": 5.0, "transform": half_even}
    np.testing.assert_allclose(losses.soft_cross_entropy(student, teacher, **knobs), slow)


def test_the_gradient_of_soft_cross_entropy_is_the_difference_over_the_students_temperature():
    student, teacher = rng.normal(size=(2, 3, 4))
    _, gradient = value_and_gradient(
        lambda z: losses.soft_cross_entropy(
            z, teacher, student_temperature=2.0, teacher_temperature=5.0
        ),
        student,
    )
    want = (softmax(student / 2.0) - softmax(teacher / 5.0)) / 2.0
    np.testing.assert_allclose(gradient, want, atol=1e-12)


# --- the true class, and the others ---


def test_the_two_parts_of_soft_targets_on_the_sheet():
    target = np.mean(losses.target_kl(ZS, ZT, Y, temperature=4.0))
    other = np.mean(losses.other_kl(ZS, ZT, Y, temperature=4.0))
    np.testing.assert_allclose(
        [target, other, target + 8 * other], [0.30904200, 0.24870600, 2.29869003], atol=2e-8
    )


def slow_parts(student, teacher, label, temperature):
    p, q = (softmax(z / temperature) for z in (teacher, student))
    two = [(p[label], q[label]), (1 - p[label], 1 - q[label])]
    target = sum(a * math.log(a / b) for a, b in two)
    others = [k for k in range(len(p)) if k != label]
    p_rest, q_rest = sum(p[k] for k in others), sum(q[k] for k in others)
    other = sum(p[k] / p_rest * math.log((p[k] / p_rest) / (q[k] / q_rest)) for k in others)
    return temperature**2 * target, temperature**2 * other


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("classes", [3, 6])
def test_the_two_parts_match_the_loops(classes, temperature):
    student, teacher = rng.normal(0, 2, size=(2, 4, classes))
    labels = rng.integers(0, classes, 4)
    slow = np.array(
        [slow_parts(*row, temperature) for row in zip(student, teacher, labels, strict=True)]
    )
    for column, part in enumerate((losses.target_kl, losses.other_kl)):
        got = part(student, teacher, labels, temperature=temperature)
        np.testing.assert_allclose(got, slow[:, column], rtol=1e-9)


def test_soft_targets_are_the_two_parts_the_second_weighed_by_the_teachers_doubt():
    student, teacher = rng.normal(0, 2, size=(2, 4, 5))
    labels = np.array([0, 4, 2, 2])
    doubt = 1 - softmax(teacher / 3.0)[np.arange(4), labels]
    target, other = (
        np.asarray(part(student, teacher, labels, temperature=3.0))
        for part in (losses.target_kl, losses.other_kl)
    )
    whole = losses.softened_kl(student, teacher, temperature=3.0)
    np.testing.assert_allclose(target + doubt * other, whole, rtol=1e-9)


def test_two_classes_have_no_others_to_compare():
    student, teacher = rng.normal(size=(2, 3, 2))
    np.testing.assert_allclose(
        losses.other_kl(student, teacher, np.array([0, 1, 1]), temperature=2.0), 0.0, atol=1e-12
    )


def test_soft_labels_stand_for_their_likeliest_class():
    soft = np.array([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]])
    for part in (losses.target_kl, losses.other_kl):
        np.testing.assert_array_equal(
            part(ZS, ZT, soft, temperature=4.0), part(ZS, ZT, Y, temperature=4.0)
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_student_that_is_sure_of_a_wrong_class_still_has_a_gradient(dtype):
    teacher, student = np.array([[[90, 0, 0]], [[0, 90, 0]]], dtype)
    value, gradient = value_and_gradient(
        lambda z: losses.target_kl(z, teacher, np.array([0]), temperature=1.0), student
    )
    np.testing.assert_allclose(value, [90.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0, 0.0]], atol=1e-6)


# --- correlations ---


def slow_distance(a, b):
    a, b = a - a.mean(), b - b.mean()
    return 1 - (a * b).sum() / (math.sqrt((a**2).sum()) * math.sqrt((b**2).sum()) + 1e-8)


@pytest.mark.parametrize("shape", [(2, 3), (5, 4)])
def test_correlations_match_the_loops(shape):
    student, teacher = rng.normal(size=(2, *shape))
    q, p = softmax(student / 2), softmax(teacher / 2)
    inter = [slow_distance(q[n], p[n]) for n in range(shape[0])]
    got = losses.inter_class_distance(student, teacher, temperature=2.0)
    np.testing.assert_allclose(got, inter, rtol=1e-9)
    intra = np.mean([slow_distance(q[:, c], p[:, c]) for c in range(shape[1])])
    got = losses.intra_class_distance(student, teacher, temperature=2.0)
    np.testing.assert_allclose(np.mean(got), intra, rtol=1e-9)


def test_correlations_on_the_sheet():
    parts = [
        [
            np.mean(f(ZS3, ZT3, temperature=t))
            for f in (losses.inter_class_distance, losses.intra_class_distance)
        ]
        for t in (1.0, 4.0)
    ]
    np.testing.assert_allclose(
        [*parts[0], sum(parts[0])], [0.25764566, 0.04871140, 0.30635706], atol=2e-8
    )
    np.testing.assert_allclose(16 * sum(parts[1]), 6.74880914, atol=2e-7)


def test_a_correlation_does_not_see_scale_nor_a_share_of_even_answers():
    p = softmax(rng.normal(size=(5, 4)))
    weaker = np.log(0.5 * p + 0.125)  # half of each example's answer is even
    for distance in (losses.inter_class_distance, losses.intra_class_distance):
        np.testing.assert_allclose(
            np.mean(distance(weaker, np.log(p), temperature=1.0)), 0.0, atol=2e-6
        )


def test_of_two_examples_columns_either_agree_or_disagree():
    got = losses.intra_class_distance(ZS, ZT, temperature=1.0)
    signs = np.sign(np.diff(softmax(ZS), axis=0) * np.diff(softmax(ZT), axis=0))
    np.testing.assert_allclose(np.mean(got), 1 - signs.mean(), atol=1e-6)


# --- standardised logits ---


def test_standardised_logits_on_the_sheet():
    loss = losses.softened_kl(losses.standardised(ZS), losses.standardised(ZT), temperature=2.0)
    np.testing.assert_allclose(np.mean(loss), 0.27064088, atol=5e-9)
    np.testing.assert_allclose(9 * np.mean(loss), 2.43576790, atol=5e-8)


def test_standardised_logits_divide_by_one_less_than_the_classes():
    z = rng.normal(size=(3, 5))
    slow = [(row - row.mean()) / (1e-7 + row.std(ddof=1)) for row in z]
    np.testing.assert_allclose(losses.standardised(z), slow, rtol=1e-9)


def test_standardised_logits_see_neither_shift_nor_scale():
    z = rng.normal(size=(3, 5))
    np.testing.assert_allclose(losses.standardised(3 * z + 7), losses.standardised(z), rtol=1e-6)


def test_logits_that_are_all_alike_become_zeros_without_a_gradient():
    alike = np.full((2, 4), 1 / 3, "float32")
    value, gradient = value_and_gradient(losses.standardised, alike)
    assert not value.any()
    assert not gradient.any()
