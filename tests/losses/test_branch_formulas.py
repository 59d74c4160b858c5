"""Branches of a student-friendly teacher: the sheet, its options, its gradient."""

import numpy as np
import pytest
import tensorflow as tf
from formula_cases import ZS, ZT, Y, softmax

from kd_keras import losses

BRANCHES = [np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 1.0]]), ZS]
CE_T, KL_TR, KL_RT, CE_R = 0.23674493, 0.32418016, 0.44679015, 1.15072080


def mean(**options):
    return float(np.mean(losses.branch_loss(ZT, BRANCHES, Y, **options)))


def test_the_terms_on_the_sheet():
    assert np.mean(losses.cross_entropy(Y, ZT)) == pytest.approx(CE_T, abs=5e-9)
    only_kl = {"divergence_weight": 1.0, "label_weight": 0.0, "summed": True}
    assert mean(**only_kl) == pytest.approx(KL_TR, abs=5e-9)
    assert mean(**only_kl, reverse=True) == pytest.approx(KL_RT, abs=5e-9)
    assert mean(divergence_weight=0.0, summed=True) == pytest.approx(CE_R, abs=5e-9)


def test_the_whole_loss_on_the_sheet():
    assert CE_T + mean(summed=True) == pytest.approx(2.36000621, abs=5e-9)
    assert CE_T + mean() == pytest.approx(1.29837556, abs=1e-8)


@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_what_loops_over_branches_examples_and_classes_give(reverse):
    t = 2.0
    want = np.zeros(2)
    for z in BRANCHES:
        for n in range(2):
            p, q = softmax(ZT[n] / t), softmax(z[n] / t)
            p, q = (q, p) if reverse else (p, q)
            divergence = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
            want[n] += 0.5 * t**2 * divergence - 0.25 * np.log(softmax(z[n])[Y[n]])
    knobs = {"temperature": t, "divergence_weight": 0.5, "label_weight": 0.25}
    got = losses.branch_loss(ZT, BRANCHES, Y, **knobs, reverse=reverse, summed=True)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_divergence_reaches_the_teacher(reverse):
    """With `KL(t || r)` at temperature 1 the gradient is `p_k (log p_k / q_k - KL)`."""
    teacher = tf.constant(ZT)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        loss = losses.branch_loss(
            teacher, [ZS], Y, divergence_weight=1.0, label_weight=0.0, reverse=reverse
        )
    p, q = softmax(ZT), softmax(ZS)
    apart = (p * np.log(p / q)).sum(axis=-1, keepdims=True)
    want = p - q if reverse else p * (np.log(p / q) - apart)
    np.testing.assert_allclose(tape.gradient(loss, teacher), want, atol=1e-12)
