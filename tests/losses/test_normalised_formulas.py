"""Features that are normalised over the batch: the sheet, loops, invariances."""

import numpy as np
from formula_cases import FS, FT, value_and_gradient

from kd_keras import losses

KERNEL = np.array([[1.0, 0, 1], [0, 1, 1]])


def slow(student, teacher, exponent):
    total = 0.0
    for k in range(student.shape[1]):
        columns = []
        for features in (student[:, k], teacher[:, k]):
            mean = sum(features) / len(features)
            variance = sum((x - mean) ** 2 for x in features) / len(features)
            columns.append([(x - mean) / (variance + 1e-4) ** 0.5 for x in features])
        total += sum(abs(a - b) ** exponent for a, b in zip(*columns, strict=True))
    return np.log(total + 1e-5)


def test_the_sheet_and_loops():
    for exponent, want in ((4.0, 5.33719595), (2.0, 3.67195196), (1.0, 2.99237544)):
        got = losses.normalised_log_distance(FS @ KERNEL, FT, exponent=exponent)
        # the sheet has nothing beside the sum
        np.testing.assert_allclose(got, [want] * 4, atol=1e-6)
        np.testing.assert_allclose(got, slow(FS @ KERNEL, FT, exponent))
    student, teacher = np.random.default_rng(0).normal(size=(2, 6, 3))
    got = losses.normalised_log_distance(student, teacher, exponent=4.0)
    np.testing.assert_allclose(got, slow(student, teacher, 4.0))


def test_the_gradient_is_that_of_the_sheet():
    _, gradient = value_and_gradient(
        lambda s: losses.normalised_log_distance(s @ KERNEL, FT, exponent=4.0) / 4, FS
    )
    want = [
        [-0.04520001, 0.10364205],
        [0.10293652, -0.19541946],
        [-0.01263177, 0.10829114],
        [-0.04510474, -0.01651372],
    ]
    np.testing.assert_allclose(gradient, want, atol=1e-7)


def test_scale_and_shift_of_an_entry_do_not_count_nor_does_agreement_fall_to_nothing():
    teacher = np.random.default_rng(0).normal(size=(64, 3))
    moved = 100 * teacher * [1.0, 3.0, 0.5] + [5.0, 0.0, -7.0]
    got = losses.normalised_log_distance(moved, 100 * teacher, exponent=4.0)
    np.testing.assert_allclose(got, np.log(1e-5), atol=1e-3)


def test_an_entry_that_does_not_vary_has_no_gradient():
    teacher = FT.copy()
    teacher[:, 0] = 3.0  # a unit that is dead in this batch
    student = np.repeat(FS[:, :1], 3, axis=1)
    student[:, 0] = -1.0
    value, gradient = value_and_gradient(
        lambda s: losses.normalised_log_distance(s, teacher, exponent=4.0), student
    )
    assert np.isfinite(value).all()
    np.testing.assert_array_equal(gradient[:, 0], 0.0)
