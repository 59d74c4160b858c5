"""Maps compared at several resolutions: the sheet, loops, vectors."""

import numpy as np
import pytest

from kd_keras import losses


def slow(student, teacher):
    """The paper's loss of one level, window by window, for one example."""
    height = student.shape[0]
    total, weights, weight = np.mean((student - teacher) ** 2), 1.0, 1.0
    for side in (4, 2, 1):
        if side >= height:
            continue
        weight /= 2
        squares = []
        for i in range(side):
            for j in range(side):
                top, left = i * height // side, j * height // side
                bottom, right = -(-(i + 1) * height // side), -(-(j + 1) * height // side)
                cut = (slice(top, bottom), slice(left, right))
                squares.extend(
                    (student[cut].mean(axis=(0, 1)) - teacher[cut].mean(axis=(0, 1))) ** 2
                )
        total += weight * np.mean(squares)
        weights += weight
    return total / weights


def test_a_level_is_that_of_the_sheet_by_its_parts():
    student, teacher = np.arange(16.0).reshape(1, 4, 4, 1) / 8, np.zeros((1, 4, 4, 1))
    teacher[0, 0, 0, 0], teacher[0, 3, 3, 0] = 2.0, 1.0
    want = (1.28906250 + 0.94921875 / 2 + 0.56250000 / 4) / 1.75
    np.testing.assert_allclose(want, 1.08816964, atol=5e-9)
    np.testing.assert_allclose(losses.hierarchical_difference(student, teacher), [want])


def test_levels_of_the_sheet_and_of_loops():
    rng = np.random.default_rng(0)
    shapes, want = [(8, 8, 2), (4, 4, 3), (1, 1, 3)], [1.17322515, 1.49849522, 1.27817373]
    levels = [(rng.standard_normal((2, *s)), rng.standard_normal((2, *s))) for s in shapes]
    got = [np.mean(losses.hierarchical_difference(*level)) for level in levels]
    np.testing.assert_allclose(got, want, atol=5e-9)
    np.testing.assert_allclose(sum(got), 3.94989411, atol=5e-9)
    for side in (1, 2, 3, 5, 7):
        student, teacher = rng.normal(size=(2, 2, side, side, 2))
        want = [slow(*pair) for pair in zip(student, teacher, strict=True)]
        np.testing.assert_allclose(losses.hierarchical_difference(student, teacher), want)


def test_vectors_are_maps_of_one_place():
    student, teacher = np.random.default_rng(0).normal(size=(2, 3, 5))
    as_maps = losses.hierarchical_difference(student[:, None, None], teacher[:, None, None])
    np.testing.assert_allclose(losses.hierarchical_difference(student, teacher), as_maps)


def test_only_its_mean_counts_of_what_is_moved_within_a_window():
    map = np.zeros((1, 8, 8, 1))
    map[0, 0, 0, 0] = 1.0
    moved = {place: np.roll(map, place, axis=1) for place in (1, 4)}
    near, far = (float(losses.hierarchical_difference(m, map)[0]) for m in moved.values())
    assert near < far  # from 4x4 on, the first is where it was
    assert near == pytest.approx(2 / 64 / 1.875)
