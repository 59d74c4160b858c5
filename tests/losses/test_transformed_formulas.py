"""A teacher raised to a power: the sheet, loops, identities, sure teachers in float32."""

import numpy as np
from formula_cases import ZS, ZT, softmax, value_and_gradient

from kd_keras import losses


def weighted(student, teacher, exponent):
    return losses.power_sum(teacher, exponent=exponent) * losses.transformed_kl(
        student, teacher, exponent=exponent
    )


def slow(student, teacher, exponent):
    """The sum of powers and the divergence of every example, class by class."""
    found = []
    for s, t in zip(student, teacher, strict=True):
        powers = [p**exponent for p in softmax(t)]
        u, q = sum(powers), softmax(s)
        found.append((u, sum(x / u * np.log(x / u / q[k]) for k, x in enumerate(powers))))
    return np.array(found).T


def test_the_sheet_and_loops():
    u, kl = losses.power_sum(ZT, exponent=0.25), losses.transformed_kl(ZS, ZT, exponent=0.25)
    np.testing.assert_allclose(u, [1.81018360, 2.15423698], atol=5e-9)
    np.testing.assert_allclose(kl, [0.06178612, 0.11039099], atol=5e-9)
    for exponent, plain, weighed in (
        (0.25, 0.08608856, 0.17482629),
        (0.1, 0.14316452, 0.35377960),
        (1.0, 0.24426443, 0.24426443),  # soft targets at temperature 1
    ):
        got = np.mean(losses.transformed_kl(ZS, ZT, exponent=exponent))
        np.testing.assert_allclose(got, plain, atol=5e-9)
        np.testing.assert_allclose(np.mean(weighted(ZS, ZT, exponent)), weighed, atol=5e-9)
    student, teacher = np.random.default_rng(0).normal(size=(2, 5, 4))
    u, kl = slow(student, teacher, 0.3)
    np.testing.assert_allclose(losses.power_sum(teacher, exponent=0.3), u)
    np.testing.assert_allclose(losses.transformed_kl(student, teacher, exponent=0.3), kl)


def test_the_gradient_is_the_power_sum_times_the_difference_of_the_probabilities():
    _, gradient = value_and_gradient(lambda s: weighted(s, ZT, 0.25) / 2, ZS)
    want = [[0.11027217, -0.01082324, -0.09944893], [0.18100285, 0.00332813, -0.18433098]]
    np.testing.assert_allclose(gradient, want, atol=5e-9)
    u = losses.power_sum(ZT, exponent=0.25)
    np.testing.assert_allclose(gradient, u[:, None] * (softmax(ZS) - softmax(ZT / 4)) / 2)


def test_a_student_that_gives_the_softened_answer_pays_nothing():
    np.testing.assert_allclose(losses.transformed_kl(0.3 * ZT + 7, ZT, exponent=0.3), 0, atol=1e-12)


def test_the_powers_of_a_sure_teacher_do_not_underflow_in_float32():
    sure = np.array([[300.0, 0.0, 0.0]])  # softmax gives 1, 0, 0 in float32
    got = losses.power_sum(sure.astype("float32"), exponent=0.01)
    np.testing.assert_allclose(got, 1 + 2 * np.exp(-3.0), rtol=1e-6)
    even = losses.power_sum(np.zeros((1, 7)), exponent=0.4)
    np.testing.assert_allclose(even, 7**0.6)
