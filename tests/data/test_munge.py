"""MUNGE: the sheet's example, loops written from its rule, and what must hold of what is made."""

import tracemalloc

import numpy as np
import pytest

from kd_keras.data import munge as module
from kd_keras.data.munge import munge, squared_distances


def slow_munge(examples, *, copies, swap, sharpness, seed):
    """The rule, example after example: every distance anew."""
    made = []
    for number in range(copies):
        rng = np.random.default_rng([seed, number])
        left = examples.astype("float64")
        for e in range(len(left)):
            apart = [
                np.inf if other == e else np.sum((left[e] - left[other]) ** 2)
                for other in range(len(left))
            ]
            nearest = int(np.argmin(apart))
            x, y = left[e].copy(), left[nearest].copy()
            noise = np.abs(x - y) / sharpness
            exchanged = rng.random(len(x)) < swap
            for place, values in ((e, y), (nearest, x)):
                drawn = values + noise * rng.standard_normal(len(x))
                if examples.dtype == np.uint8:
                    drawn = np.clip(np.rint(drawn), 0, 255)
                left[place] = np.where(exchanged, drawn, left[place])
        made.append(left.astype(examples.dtype))
    return np.concatenate(made)


def points(dtype, shape, seed=0, levels=256):
    rng = np.random.default_rng(seed)
    if dtype == "float64":
        return rng.random(shape)
    return (rng.integers(0, levels, shape) * (256 // levels)).astype("uint8")


def test_the_sheets_example_is_sequential_and_in_place():
    corners = np.array([[0.0, 0.0], [0.1, 0.2], [1.0, 1.0]])
    made = munge(corners, swap=1.0, sharpness=np.inf)
    np.testing.assert_array_equal(made, [[0, 0], [1, 1], [0.1, 0.2]])
    at_once = [[0.1, 0.2], [0, 0], [0.1, 0.2]]  # all neighbours found first: another algorithm
    assert not np.array_equal(made, at_once)
    np.testing.assert_array_equal(corners, [[0, 0], [0.1, 0.2], [1, 1]])  # left as they were


@pytest.mark.parametrize("rows_a_block", [1, 7, 1000])
@pytest.mark.parametrize("swap", [0.2, 1.0])
@pytest.mark.parametrize(("dtype", "levels"), [("float64", 0), ("uint8", 256), ("uint8", 4)])
def test_it_matches_the_loops_whatever_the_blocks(monkeypatch, rows_a_block, swap, dtype, levels):
    # of few levels many neighbours are equally near, and some examples are alike
    x = points(dtype, (30, 5), levels=levels)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * len(x) * rows_a_block)
    monkeypatch.setattr(module, "ROWS", 11)
    monkeypatch.setattr(module, "WIDTH", 3)
    how = {"copies": 2, "swap": swap, "sharpness": 3.0, "seed": 1}
    np.testing.assert_array_equal(munge(x, **how), slow_munge(x, **how))


@pytest.mark.parametrize("size", [3, 1024, 3000])
def test_distances_of_pixels_are_exact(size):
    x = np.array([[0] * size, [255] * size, [0, *[255] * (size - 1)], [128] * size], "uint8")
    whole = x.astype("int64")
    want = ((whole[:, None] - whole[None]) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(squared_distances(x, x), want)


def test_the_seed_decides_and_copies_are_numbered():
    x = points("uint8", (12, 4, 4, 1))
    two, three = (munge(x, copies=copies, seed=5) for copies in (2, 3))
    assert two.shape == (24, 4, 4, 1)
    assert two.dtype == np.uint8
    np.testing.assert_array_equal(two, three[:24])
    np.testing.assert_array_equal(two, munge(x, copies=2, seed=5))
    assert not np.array_equal(two[:12], two[12:])
    assert not np.array_equal(two, munge(x, copies=2, seed=6))


def test_nothing_is_exchanged_with_probability_zero_and_without_noise_no_value_is_lost():
    x = points("uint8", (20, 6))
    np.testing.assert_array_equal(munge(x, swap=0.0), x)
    exchanged = munge(x, swap=0.5, sharpness=np.inf)
    assert not np.array_equal(exchanged, x)
    np.testing.assert_array_equal(np.sort(exchanged, axis=0), np.sort(x, axis=0))


def test_noise_is_as_wide_as_two_are_apart_over_the_sharpness():
    # two examples: each exchanges twice, so that noise of both steps is in what is left
    x = np.stack([np.zeros(20_000), np.ones(20_000)])
    for sharpness in (4.0, 16.0):
        noise = munge(x, swap=1.0, sharpness=sharpness, seed=3) - x
        # a second draw is around a value of the first, with a width of about the first's
        assert noise.std() == pytest.approx(np.sqrt(2) / sharpness, rel=0.1)
        assert abs(noise.mean()) < 0.02


def test_neighbours_in_two_clouds_stay_in_them():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0.2, 0.02, (50, 8)), rng.normal(0.8, 0.02, (50, 8))])
    made = munge(x, copies=3, seed=1).reshape(3, 2, 50, 8)
    assert made[:, 0].max() < 0.5 < made[:, 1].min()


def test_memory_does_not_grow_with_the_square_of_their_number():
    x = points("uint8", (1500, 16))
    module_block = 8 * len(x) * 20  # 20 rows of distances at a time
    peaks = []
    for block in (module_block, 8 * len(x) * len(x)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BLOCK", len(x))
            patch.setattr(module, "BLOCK_BYTES", block)
            tracemalloc.start()
            next(iter(module.neighbours(x)))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[0] < 10 * module_block
    assert peaks[1] > 8 * len(x) ** 2


@pytest.mark.parametrize(
    ("examples", "how", "said"),
    [
        (np.zeros((1, 4), "uint8"), {}, "two or more"),
        (np.zeros(4), {}, r"Received: shape \(4,\), float64"),
        (np.zeros((3, 4), "int64"), {}, "uint8 or floats"),
        (np.zeros((3, 4)), {"copies": 0}, "positive whole number"),
        (np.zeros((3, 4)), {"copies": 1.5}, "positive whole number"),
        (np.zeros((3, 4)), {"swap": 1.5}, r"`swap` must lie in \[0, 1\]"),
        (np.zeros((3, 4)), {"sharpness": 0.0}, "`sharpness` must be a positive number"),
    ],
)
def test_what_cannot_be_munged_is_refused(examples, how, said):
    with pytest.raises(ValueError, match=said):
        munge(examples, **how)
