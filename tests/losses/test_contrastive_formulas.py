"""Contrast: the sheet, loops, limits."""

import math

import numpy as np
from formula_cases import finite_differences, value_and_gradient

from kd_keras import losses

rng = np.random.default_rng(0)

# of the sheet: four examples, vectors of two numbers, two negatives
MEMORY_S = np.array([[1.0, 0], [0, 1], [-1, 0], [0.6, 0.8]])
MEMORY_T = np.array([[0.0, 1], [1, 0], [0.8, 0.6], [0, -1]])
H_S, H_T = np.array([[0.6, 0.8], [1, 0]]), np.array([[0.0, 1], [0.8, 0.6]])
PLACES = np.array([[0, 1, 2], [1, 3, 2]])
SCORES = [
    np.einsum("nd,nkd->nk", h, memory[PLACES]) / 0.5
    for h, memory in ((H_S, MEMORY_T), (H_T, MEMORY_S))
]


def test_contrast_on_the_sheet():
    normalisers = [float(losses.contrastive_normaliser(s, examples=4)) for s in SCORES]
    np.testing.assert_allclose(normalisers, [18.95746423, 13.15468534], atol=5e-9)
    sides = [
        np.mean(losses.contrastive_loss(s, normaliser=z, examples=4))
        for s, z in zip(SCORES, normalisers, strict=True)
    ]
    np.testing.assert_allclose(
        [*sides, sum(sides)], [1.62895835, 2.37686401, 4.00582236], atol=6e-9
    )


def test_memories_move_as_on_the_sheet():
    np.testing.assert_allclose(
        losses.moved(MEMORY_S[:2], H_S, momentum=0.5),
        [[0.89442719, 0.44721360], [0.70710678, 0.70710678]],
        atol=5e-9,
    )
    np.testing.assert_allclose(
        losses.moved(MEMORY_T[:2], H_T, momentum=0.5),
        [[0, 1], [0.94868330, 0.31622777]],
        atol=5e-9,
    )


def slow_contrast(row, normaliser, examples, epsilon=1e-7):
    p = [math.exp(score) / normaliser for score in row]
    noise = (len(row) - 1) / examples
    total = math.log(p[0] / (p[0] + noise + epsilon))
    return -(total + sum(math.log(noise / (x + noise + epsilon)) for x in p[1:]))


def test_contrast_matches_the_loops():
    scores = rng.normal(size=(5, 9))
    slow = [slow_contrast(row, 30.0, 50) for row in scores]
    np.testing.assert_allclose(
        losses.contrastive_loss(scores, normaliser=30.0, examples=50), slow, rtol=1e-9
    )


def test_the_gradient_is_that_of_finite_differences():
    scores = rng.normal(size=(2, 4))

    def loss(s):
        return losses.contrastive_loss(s, normaliser=9.0, examples=7, weights=np.ones((2, 3)) * 1.5)

    _, gradient = value_and_gradient(loss, scores)
    want = finite_differences(lambda s: np.asarray(loss(s)), scores)
    np.testing.assert_allclose(gradient, want, atol=1e-8)
    assert (gradient[:, 0] < 0).all()  # the own pair is drawn together
    assert (gradient[:, 1:] > 0).all()  # the others apart


def test_weights_stand_for_repetition():
    scores = rng.normal(size=(3, 3))
    repeated = np.concatenate([scores, scores[:, 1:]], axis=1)
    np.testing.assert_allclose(
        losses.contrastive_loss(
            scores, normaliser=5.0, examples=20, negatives=4, weights=np.full((3, 2), 2.0)
        ),
        losses.contrastive_loss(repeated, normaliser=5.0, examples=20),
        rtol=1e-9,
    )
    left_out = losses.contrastive_normaliser(
        scores, examples=20, weights=np.array([[1.0, 1, 0]] * 3)
    )
    np.testing.assert_allclose(
        left_out, losses.contrastive_normaliser(scores[:, :2], examples=20), rtol=1e-9
    )


def test_scores_at_the_papers_temperature_stay_finite_in_single_precision():
    scores = np.array([[1, -1, 1], [-1, 1, 1]], "float32") / np.float32(0.07)
    z = losses.contrastive_normaliser(scores, examples=50000)
    value, gradient = value_and_gradient(
        lambda s: losses.contrastive_loss(s, normaliser=z, examples=50000), scores
    )
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    halves = losses.contrastive_loss(scores.astype("float16"), normaliser=z, examples=50000)
    np.testing.assert_allclose(halves, value, rtol=1e-2)
