"""The formulas: by hand, at zero, under shifts, by gradient, and against slow twins."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from formula_cases import ZS as STUDENT
from formula_cases import ZT as TEACHER
from formula_cases import Y as LABELS
from formula_cases import softmax, value_and_gradient
from keras import ops

from kd_keras import losses, schedules

rng = np.random.default_rng(0)


def slow_softened_kl(student, teacher, temperature):
    """Equation by equation, as in Hinton, Vinyals and Dean (2015), section 2."""
    result = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p = [math.exp(z / temperature) for z in z_t]
        q = [math.exp(z / temperature) for z in z_s]
        total = 0.0
        for p_i, q_i in zip(p, q, strict=True):
            total += p_i / sum(p) * math.log((p_i / sum(p)) / (q_i / sum(q)))
        result.append(temperature**2 * total)
    return result


def test_softened_kl_of_three_to_one_against_even():
    want = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    got = losses.softened_kl(np.zeros((1, 2)), np.log([[3.0, 1.0]]), temperature=1.0)
    np.testing.assert_allclose(got, [want], rtol=1e-12)


@pytest.mark.parametrize(
    ("temperature", "want"), [(1.0, 0.24426443), (4.0, 0.45348325), (20.0, 0.45090047)]
)
def test_softened_kl_gives_the_numbers_of_the_sheet(temperature, want):
    got = losses.softened_kl(STUDENT, TEACHER, temperature=temperature)
    assert got.dtype == tf.float64
    np.testing.assert_allclose(np.mean(got), want, atol=5e-9)


@pytest.mark.parametrize(
    ("temperature", "want"), [(1.0, 0.79761876), (4.0, 17.09685632), (20.0, 438.98749502)]
)
def test_softened_kl_and_the_teachers_entropy_make_the_soft_cross_entropy(temperature, want):
    p = softmax(TEACHER / temperature)
    entropy = -(p * np.log(p)).sum(axis=-1)
    kl = losses.softened_kl(STUDENT, TEACHER, temperature=temperature)
    np.testing.assert_allclose(np.mean(kl + temperature**2 * entropy), want, atol=5e-9)


def test_softened_kl_gradient_of_the_sheet():
    _, gradient = value_and_gradient(
        lambda z: tf.reduce_mean(losses.softened_kl(z, TEACHER, temperature=4.0)), STUDENT
    )
    want = [[-0.24835332, 0.13961840, 0.10873491], [0.21118451, -0.11872297, -0.09246154]]
    np.testing.assert_allclose(gradient, want, atol=5e-9)


def test_mixed_loss_of_the_sheet():
    hard = losses.cross_entropy(LABELS, STUDENT)
    soft = losses.softened_kl(STUDENT, TEACHER, temperature=4.0)
    np.testing.assert_allclose(np.mean(0.1 * hard + 0.9 * soft), 0.47161496, atol=5e-9)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (7, 10)])
def test_softened_kl_matches_the_loops(shape, temperature):
    student, teacher = rng.normal(0, 3, size=(2, *shape))
    np.testing.assert_allclose(
        losses.softened_kl(student, teacher, temperature=temperature),
        slow_softened_kl(student, teacher, temperature),
        rtol=1e-9,
    )


def test_softened_kl_is_zero_on_agreement_and_blind_to_shifts():
    z, other = rng.normal(size=(2, 5, 7))
    np.testing.assert_allclose(losses.softened_kl(z, z, temperature=4.0), 0.0, atol=1e-12)
    np.testing.assert_allclose(losses.softened_kl(z + 9, z - 2, temperature=4.0), 0.0, atol=1e-12)
    np.testing.assert_allclose(
        losses.softened_kl(z + 9, other - 2, temperature=4.0),
        losses.softened_kl(z, other, temperature=4.0),
        rtol=1e-9,
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
def test_softened_kl_gradient_is_temperature_times_the_difference(temperature):
    student, teacher = rng.normal(0, 2, size=(2, 3, 5))
    _, gradient = value_and_gradient(
        lambda z: tf.reduce_sum(losses.softened_kl(z, teacher, temperature=temperature)), student
    )
    want = temperature * (softmax(student / temperature) - softmax(teacher / temperature))
    np.testing.assert_allclose(gradient, want, atol=1e-12)


def test_softened_kl_at_high_temperature_is_logit_regression():
    _, gradient = value_and_gradient(
        lambda z: tf.reduce_mean(losses.softened_kl(z, TEACHER, temperature=1e4)), STUDENT
    )
    centred = [z - z.mean(axis=-1, keepdims=True) for z in (STUDENT, TEACHER)]
    want = (centred[0] - centred[1]) / STUDENT.size
    np.testing.assert_allclose(gradient, want, atol=1e-4)
    np.testing.assert_allclose(want, [[-2 / 9, 1 / 9, 1 / 9], [2 / 9, -1 / 9, -1 / 9]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softened_kl_of_confident_logits_does_not_saturate(dtype):
    """`keras.losses.KLDivergence` gives 16.1 with gradient 0 in such a place."""
    teacher, student = np.array([[[40, 0, 0]], [[0, 30, 0]]], dtype)
    value, gradient = value_and_gradient(
        lambda z: losses.softened_kl(z, teacher, temperature=1.0), student
    )
    np.testing.assert_allclose(value, [30.0], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[-1.0, 1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher = (ops.cast(z, dtype) for z in (STUDENT, TEACHER))  # both hold them exactly
    soft = losses.softened_kl(student, teacher, temperature=4.0)
    hard = losses.cross_entropy(LABELS, student)
    assert soft.dtype == hard.dtype == tf.float32
    np.testing.assert_allclose(np.mean(soft), 0.45348325, rtol=1e-5)
    np.testing.assert_allclose(np.mean(hard), 0.63480038, rtol=1e-6)


def test_softened_kl_takes_its_temperature_from_a_variable():
    temperature = keras.Variable(4.0)
    got = losses.softened_kl(
        STUDENT.astype("float32"), TEACHER.astype("float32"), temperature=temperature
    )
    np.testing.assert_allclose(np.mean(got), 0.45348325, rtol=1e-5)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.eye(3)[LABELS]])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_cross_entropy_of_class_numbers_and_of_one_hot(labels, dtype):
    got = losses.cross_entropy(labels.astype(dtype), STUDENT)
    assert got.shape == (2,)
    by_hand = [
        -math.log(math.exp(2) / (math.exp(2) + math.e + 1)),
        -math.log(math.e / (2 * math.e + 1)),
    ]
    np.testing.assert_allclose(got, by_hand, rtol=1e-9)
    np.testing.assert_allclose(np.mean(got), 0.63480038, atol=5e-9)


def test_cross_entropy_of_the_teacher_on_the_sheet():
    np.testing.assert_allclose(
        np.mean(losses.cross_entropy(LABELS, TEACHER)), 0.23674493, atol=5e-9
    )


def test_cross_entropy_of_soft_labels():
    soft = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    want = -(soft * np.log(softmax(STUDENT))).sum(axis=-1)
    np.testing.assert_allclose(losses.cross_entropy(soft, STUDENT), want, rtol=1e-12)


def test_cross_entropy_gradient_is_softmax_minus_label():
    logits, labels = rng.normal(size=(4, 5)), np.array([0, 4, 2, 2])
    _, gradient = value_and_gradient(
        lambda z: tf.reduce_sum(losses.cross_entropy(labels, z)), logits
    )
    np.testing.assert_allclose(gradient, softmax(logits) - np.eye(5)[labels], atol=1e-12)


def test_cross_entropy_of_confidently_wrong_logits_does_not_saturate():
    value, gradient = value_and_gradient(
        lambda z: losses.cross_entropy(np.array([0]), z), np.array([[0.0, 200.0, 0.0]], "float32")
    )
    np.testing.assert_allclose(value, [200.0])
    np.testing.assert_allclose(gradient, [[-1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [((4,), 3, True), ((4, 1), 3, True), ((4, 3), 3, False), ((4, 2), 2, False)],
)
def test_labels_are_told_apart_by_their_shape(labels, classes, numbers):
    assert losses.are_class_numbers(np.zeros(labels), np.zeros((4, classes))) is numbers


# --- the sheet's compositions: schedules, chains and peers that are sums of these formulas ---


def mean(values):
    return float(np.mean(np.asarray(values)))


def kl(student, teacher, temperature):
    return mean(losses.softened_kl(student, teacher, temperature=temperature))


def test_early_stopped_distillation_is_the_mixed_loss_and_then_the_labels_alone():
    alpha = schedules.Steps((0.1, 1.0), (60,))
    hard = mean(losses.cross_entropy(LABELS, STUDENT))
    soft = kl(STUDENT, TEACHER, 4.0)
    mixed = [losses.mixed(hard, soft, alpha=alpha(epoch)) for epoch in (59, 60)]
    np.testing.assert_allclose(mixed, [0.47161496, 0.63480038], atol=5e-9)


def test_a_hop_of_a_teacher_assistant():
    hard = mean(losses.cross_entropy(LABELS, STUDENT))
    soft = kl(STUDENT, TEACHER, 4.0)
    np.testing.assert_allclose(losses.mixed(hard, soft, alpha=0.5), 0.54414182, atol=5e-9)
    # a mean over the classes too, as in the authors' code, is not the formula
    np.testing.assert_allclose([soft / 16, soft / 48], [0.02834270, 0.00944757], atol=5e-9)
    np.testing.assert_allclose(0.5 * hard + 0.5 * soft / 3, 0.39298067, atol=1e-7)


def test_mutual_learning_of_two_peers():
    one = mean(losses.cross_entropy(LABELS, STUDENT)) + kl(STUDENT, TEACHER, 1.0)
    two = mean(losses.cross_entropy(LABELS, TEACHER)) + kl(TEACHER, STUDENT, 1.0)
    np.testing.assert_allclose([one, two], [0.87906481, 0.59576733], atol=5e-9)


def test_own_teacher_with_three_exits():
    exits, t = [np.array([[1.0, 0, 0], [0, 1, 0]]), STUDENT], 3.0
    hard = sum(mean(losses.cross_entropy(LABELS, z)) for z in (*exits, TEACHER))
    temperatures = {"student_temperature": t, "teacher_temperature": t}
    soft = sum(t**2 * mean(losses.soft_cross_entropy(z, TEACHER, **temperatures)) for z in exits)
    np.testing.assert_allclose([hard, soft], [1.42299003, 18.82121249], atol=5e-9)
    np.testing.assert_allclose(0.9 * hard + 0.1 * soft, 3.16281228, atol=5e-9)


def test_a_student_friendly_teacher_with_two_branches():
    branches = [np.array([[3.0, 1, 0], [0, 1, 1]]), STUDENT]
    own = mean(losses.cross_entropy(LABELS, TEACHER))
    towards = sum(kl(branch, TEACHER, 1.0) for branch in branches)
    away = sum(kl(TEACHER, branch, 1.0) for branch in branches)
    hard = sum(mean(losses.cross_entropy(LABELS, branch)) for branch in branches)
    np.testing.assert_allclose(
        [own, towards, away, hard], [0.23674493, 0.32418016, 0.44679015, 1.15072080], atol=5e-9
    )
    np.testing.assert_allclose(own + 3 * towards + hard, 2.36000621, atol=5e-9)
    np.testing.assert_allclose(own + (3 * towards + hard) / 2, 1.29837556, atol=5e-9)


def test_a_targets_list_of_the_largest_and_an_even_rest():
    """TinyViT's form of a teacher's answer; what is left is shared among the other classes."""
    targets = np.full((1, 5), (1 - 0.8) / 3)
    targets[0, [3, 0]] = 0.6, 0.2
    np.testing.assert_allclose(targets, [[0.2, 0.0667, 0.0667, 0.6, 0.0667]], atol=5e-5)
    got = losses.cross_entropy(targets, np.array([[0.0, 0, 0, 1, 0]]))
    np.testing.assert_allclose(got, 1.30483244, atol=5e-9)


@pytest.mark.parametrize("labels", [np.array([0, 5, -1]), np.array([0.0, 1.5, np.nan], "float32")])
def test_a_label_that_names_no_class_costs_nan_and_not_nothing(labels):
    """A one-hot row of zeros would make it the best label there is."""
    student, teacher = np.zeros((3, 4), "float32"), np.eye(3, 4, dtype="float32")
    soft = {"labels": labels, "temperature": 2.0}
    for loss in (
        losses.cross_entropy(labels, student),
        losses.target_kl(student, teacher, **soft),
        losses.other_kl(student, teacher, **soft),
        losses.true_class_probability(student, **soft),
        losses.subclass_teacher_loss(labels, np.zeros((3, 8), "float32"), subclasses=2),
    ):
        np.testing.assert_array_equal(np.isnan(loss), [False, True, True])
