"""Products of probabilities over the batch and over the classes: the sheet, loops."""

import numpy as np
from formula_cases import ZS, ZT, softmax

from kd_keras import losses

POOL = (4.0, 2.0, 3.0, 5.0, 6.0)


def slow(student, teacher, temperature):
    """Both terms, entry by entry."""
    q, p = softmax(student / temperature), softmax(teacher / temperature)
    n, c = p.shape
    batch = sum((p[i] @ p[j] - q[i] @ q[j]) ** 2 for i in range(n) for j in range(n)) / n
    classes = 0.0
    for a in range(c):
        for b in range(c):
            pairs = [p[i, a] * p[i, b] - q[i, a] * q[i, b] for i in range(n)]
            classes += sum(pairs) ** 2
    return batch, classes / c


def both(student, teacher, temperature, **present):
    formulas = (losses.batch_gram_difference, losses.class_gram_difference)
    return [np.asarray(f(student, teacher, temperature=temperature, **present)) for f in formulas]


def test_the_terms_are_those_of_the_sheet():
    for temperatures, want in (
        ((1.0,), (0.15401878, 0.08424315)),
        ((4.0,), (0.00232620, 0.00146451)),
        ((2.0, 3.0, 4.0, 5.0, 6.0), (0.04117531, 0.02482603)),
    ):
        found = [np.mean(both(ZS, ZT, t), axis=1) for t in temperatures]
        np.testing.assert_allclose(np.sum(found, axis=0), want, atol=5e-9)


def test_the_terms_are_those_of_loops():
    student, teacher = np.random.default_rng(0).normal(size=(2, 6, 4))
    for t in (1.0, 3.0):
        np.testing.assert_allclose(
            np.mean(both(student, teacher, t), axis=1), slow(student, teacher, t), rtol=1e-9
        )


def test_the_batch_term_is_blind_to_the_names_of_the_classes_and_both_to_shifts():
    student, teacher = np.random.default_rng(0).normal(size=(2, 6, 4))
    renamed = [2, 0, 3, 1]
    np.testing.assert_allclose(both(student[:, renamed], student, 2.0)[0], 0.0, atol=1e-12)
    assert np.mean(both(student[:, renamed], student, 2.0)[1]) > 1e-3
    pairs = zip(both(student + 5, teacher - 3, 2.0), both(student, teacher, 2.0), strict=True)
    for got, want in pairs:
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_the_shares_are_those_of_the_sheet_and_of_numpys_median():
    np.testing.assert_allclose(losses.unsure_shares(ZT), (1 / 2, 2 / 3))
    rng = np.random.default_rng(0)
    for n in (1, 4, 7):
        z = rng.normal(size=(n, 5))
        p = softmax(z)
        want = [np.mean(x <= np.median(x)) for x in (p.max(axis=1), p.sum(axis=0))]
        np.testing.assert_allclose(losses.unsure_shares(z), want)
        more, present = np.concatenate([z, rng.normal(size=(2, 5))]), np.arange(n + 2) < n
        np.testing.assert_allclose(losses.unsure_shares(more, present=present), want)


def test_the_authors_whole_step_is_made_of_these_terms():
    """Weak and strong view, with the masks as the factors that they are in the code."""
    strong, teacher = np.array([[1.0, 0, 1], [0, 1, 1]]), np.array([[3.0, 1, 1], [1, 2, 0]])
    examples, classes = losses.unsure_shares(ZT)

    def instance(student, teacher, *temperatures):
        return sum(
            np.mean(losses.softened_kl(student, teacher, temperature=t)) for t in temperatures
        )

    grams = np.sum([np.mean(both(ZS, ZT, t), axis=1) for t in POOL], axis=0)
    parts = [
        0.1 * sum(np.mean(losses.cross_entropy(np.array([0, 1]), z)) for z in (ZS, strong)),
        0.9
        * (
            examples * instance(ZS, ZT, *POOL)
            + instance(strong, teacher, 4.0, 3.0, 5.0)
            + instance(ZS, ZT, 2.0, 6.0)
        ),
        0.9 * classes * grams[1],
        0.9 * examples * grams[0],
    ]
    want = [0.14967952, 2.79633207, 0.01489562, 0.01852889]
    np.testing.assert_allclose(parts, want, atol=5e-9)
    np.testing.assert_allclose(sum(parts), 2.97943609, atol=5e-9)
