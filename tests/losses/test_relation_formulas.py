"""Relations within a batch: the sheet, loops, invariances, ties."""

import math

import numpy as np
import pytest
from formula_cases import FS, FT, value_and_gradient

from kd_keras import losses

rng = np.random.default_rng(0)

STUDENT = np.array([[0.0, 0], [1, 0], [0, 1]])
TEACHER = np.array([[0.0, 0], [3, 0], [0, 4]])


def turned(x):
    """Rotated by a random orthogonal matrix."""
    return x @ np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))[0]


# --- twins with loops ---


def huber(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def slow_similarity(student, teacher):
    n, total = len(student), 0.0
    for i in range(n):
        rows = []
        for features in (student, teacher):
            row = [float(features[i] @ features[j]) for j in range(n)]
            length = math.sqrt(sum(x * x for x in row))
            rows.append([x / length for x in row])
        total += sum((a - b) ** 2 for a, b in zip(*rows, strict=True))
    return total / n**2


def slow_neighbours(student, teacher, epsilon=1e-7):
    n, total = len(student), 0.0
    for i in range(n):
        near = []
        for features in (student, teacher):
            lengths = [math.sqrt(f @ f) + epsilon for f in features]
            row = [(features[i] @ features[j] / lengths[i] / lengths[j] + 1) / 2 for j in range(n)]
            near.append([x / sum(row) for x in row])
        total += sum(
            t * math.log((t + epsilon) / (s + epsilon)) for s, t in zip(*near, strict=True)
        )
    return total / n**2


def slow_distances(student, teacher):
    n, relative = len(student), []
    for features in (student, teacher):
        d = np.array([[math.dist(a, b) for b in features] for a in features])
        relative.append(d / (d.sum() / (n * n - n)))
    return sum(huber(x) for x in (relative[0] - relative[1]).ravel()) / n**2


def slow_angles(student, teacher):
    n, total = len(student), 0.0
    for i, j, k in np.ndindex(n, n, n):
        cosines = []
        for features in (student, teacher):
            a, b = features[j] - features[i], features[k] - features[i]
            lengths = math.sqrt(a @ a) * math.sqrt(b @ b)
            cosines.append(a @ b / lengths if lengths else 0.0)
        total += huber(cosines[0] - cosines[1])
    return total / n**3


TWINS = {
    losses.similarity_difference: slow_similarity,
    losses.neighbour_divergence: slow_neighbours,
    losses.distance_difference: slow_distances,
    losses.angle_difference: slow_angles,
}
formulas = pytest.mark.parametrize("formula", TWINS, ids=lambda f: f.__name__)


@formulas
@pytest.mark.parametrize(("n", "sizes"), [(2, (3, 3)), (5, (3, 7)), (6, (1, 2))])
def test_a_relation_matches_its_loops_for_features_of_other_sizes(formula, n, sizes):
    student, teacher = (rng.normal(size=(n, size)) for size in sizes)
    np.testing.assert_allclose(
        np.mean(formula(student, teacher)), TWINS[formula](student, teacher), rtol=1e-9, atol=1e-15
    )


@formulas
def test_maps_count_as_one_long_vector(formula):
    student, teacher = rng.normal(size=(4, 2, 2, 3)), rng.normal(size=(4, 3, 1, 2))
    flat = formula(student.reshape(4, -1), teacher.reshape(4, -1))
    np.testing.assert_array_equal(formula(student, teacher), flat)


# --- the sheet ---


@pytest.mark.parametrize(
    ("formula", "want"),
    [(losses.similarity_difference, 0.11011627), (losses.neighbour_divergence, 0.00521990)],
)
def test_similarities_on_the_sheet(formula, want):
    np.testing.assert_allclose(np.mean(formula(FS, FT)), want, atol=5e-9)


def test_geometry_on_the_sheet():
    distance = np.mean(losses.distance_difference(STUDENT, TEACHER))
    angle = np.mean(losses.angle_difference(STUDENT, TEACHER))
    np.testing.assert_allclose([distance, angle], [0.00348125, 0.00074448], atol=5e-9)
    np.testing.assert_allclose(25 * distance + 50 * angle, 0.12425532, atol=5e-8)
    np.testing.assert_allclose(distance * 9 / 6, 0.00522187, atol=5e-9)  # without the diagonal


# --- invariances ---


@formulas
def test_a_relation_does_not_see_rotation_and_scale(formula):
    student, teacher = rng.normal(size=(2, 5, 4))
    want = formula(student, teacher)
    np.testing.assert_allclose(formula(turned(3 * student), teacher), want, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(formula(student, turned(3 * teacher)), want, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("formula", [losses.distance_difference, losses.angle_difference])
def test_geometry_does_not_see_a_shift(formula):
    student, teacher = rng.normal(size=(2, 5, 4))
    np.testing.assert_allclose(
        formula(student + 7, teacher - 2), formula(student, teacher), rtol=1e-9
    )


# --- ties ---


@formulas
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pair_of_twins_has_a_finite_gradient(formula, dtype):
    student, teacher = rng.normal(size=(2, 4, 3)).astype(dtype)
    student[1] = student[0]
    _, gradient = value_and_gradient(lambda s: formula(s, teacher), student)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 1e3


@formulas
def test_examples_that_are_all_alike_are_compared_without_a_gradient(formula):
    teacher = rng.normal(size=(4, 3))
    for fill in (0.0, 3.0):
        _, gradient = value_and_gradient(
            lambda s: formula(s, teacher), np.full((4, 2), fill, "float32")
        )
        if formula in (losses.distance_difference, losses.angle_difference) or fill == 0.0:
            np.testing.assert_array_equal(gradient, 0.0)
        assert np.isfinite(gradient).all()


@formulas
def test_a_single_example_relates_to_nothing(formula):
    value, gradient = value_and_gradient(
        lambda s: formula(s, rng.normal(size=(1, 3))), rng.normal(size=(1, 3))
    )
    np.testing.assert_allclose(value, 0.0, atol=1e-12)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)
