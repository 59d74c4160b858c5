"""MUNGE: synthetic examples that stay near the real ones, for a transfer set without labels.

Every example exchanges some of its attributes with its nearest neighbour, with noise in proportion
to their difference. The algorithm is sequential and in place: each neighbour is sought among the
examples as the previous steps have left them. Finding all neighbours first is another algorithm.
"""

from collections.abc import Iterator

import numpy as np

from kd_keras.utils.checks import positive, positive_int, within

# Examples whose neighbours are sought at a time, and the bytes of their distances. A larger block
# makes larger matrix products, and more to recompute.
BLOCK, BLOCK_BYTES = 128, 1 << 26
ROWS, WIDTH = 1 << 12, 1 << 10  # of the examples in one matrix product


def munge(
    examples: np.ndarray,
    *,
    copies: int = 1,
    swap: float = 0.5,
    sharpness: float = 5.0,
    seed: int = 0,
) -> np.ndarray:
    """Generate synthetic examples like the given ones, `copies` times as many.

    A copy begins as the examples themselves. Then each example e in turn finds its nearest
    neighbour e' (Euclidean, not itself). For every attribute, with probability `swap`, the values x
    of e and y of e' become draws from `Normal(y, d)` and `Normal(x, d)`, `d = |x - y| / sharpness`.

    Args:
        examples: shape `(n, ...)`, two or more: uint8 pixels; or floats, with every attribute
            scaled to [0, 1] for meaningful distances. Categorical attributes are not supported.
        copies: the number of copies.
        swap: the probability that an attribute is exchanged, in [0, 1].
        sharpness: the larger, the smaller the noise; infinity exchanges without any.
        seed: the seed of the draws. The k-th copy is the same whatever `copies` is.

    Returns:
        Shape `(copies * n, ...)`, of the dtype of `examples`; one copy after the other. Pixels are
        rounded, and clipped to 0..255. The same arguments give the same pixels on every machine
        with the same numpy, since their distances are computed in whole numbers.

    Raises:
        ValueError: for other examples, or arguments out of range.

    Source: Bucila, Caruana and Niculescu-Mizil, *Model Compression* (2006), section 3; the
    clipping is ours, and all pixels share one range instead of one each.

    Example:
        >>> import numpy as np
        >>> corners = np.array([[0.0, 0.0], [0.1, 0.2], [1.0, 1.0]])
        >>> munge(corners, swap=1.0, sharpness=np.inf).tolist()
        [[0.0, 0.0], [1.0, 1.0], [0.1, 0.2]]
    """
    examples = np.asarray(examples)
    _check(examples, copies, swap, sharpness)
    rows = examples.reshape(len(examples), -1)
    made = np.concatenate([np.copy(rows) for _ in range(copies)])
    for number in range(copies):
        part = made[number * len(rows) : (number + 1) * len(rows)]
        _munge_in_place(part, swap, sharpness, np.random.default_rng([seed, number]))
    return made.reshape(-1, *examples.shape[1:])


def _check(examples: np.ndarray, copies: int, swap: float, sharpness: float) -> None:
    pixels = examples.dtype == np.uint8
    if not (pixels or examples.dtype.kind == "f") or examples.ndim < 2 or len(examples) < 2:
        raise ValueError(
            "`examples` must hold two or more, of shape (n, ...), as uint8 or floats. "
            f"Received: shape {examples.shape}, {examples.dtype}"
        )
    positive_int("copies", copies)
    within("swap", swap, 0.0, 1.0)
    if sharpness != np.inf:
        positive("sharpness", sharpness)


def _munge_in_place(rows: np.ndarray, swap: float, sharpness: float, rng) -> None:
    for example, other in neighbours(rows):
        x, y = (rows[place].astype("float64") for place in (example, other))
        apart = np.abs(x - y) / sharpness
        exchanged = rng.random(len(x)) < swap
        for place, values in ((example, y), (other, x)):
            drawn = values + apart * rng.standard_normal(len(x))
            if rows.dtype == np.uint8:
                drawn = np.clip(np.rint(drawn), 0, 255)
            rows[place, exchanged] = drawn[exchanged]


def neighbours(rows: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield every row in turn, with its nearest other row at that time.

    Between two steps the caller may change these two rows, and no other. The distances of many rows
    to all rows are one matrix product; distances that a step changes are recomputed.

    Args:
        rows: uint8 or floats, shape `(n, size)`. Of equally near rows of pixels the first is taken.
    """
    n = len(rows)
    size = max(1, min(BLOCK, BLOCK_BYTES // (8 * n)))
    for first in range(0, n, size):
        end = min(first + size, n)
        apart = squared_distances(rows[first:end], rows)
        apart[np.arange(end - first), np.arange(first, end)] = np.inf
        for example in range(first, end):
            other = int(np.argmin(apart[example - first]))
            yield example, other
            later = example + 1 - first  # in the block, the first row still to have its turn
            for changed in (example, other):
                column = squared_distances(rows[example + 1 : end], rows[changed][None])
                apart[later:, changed] = column[:, 0]
            if example < other < end:
                apart[other - first] = squared_distances(rows[other][None], rows)[0]
                apart[other - first, other] = np.inf


def squared_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the squared distances between two sets of rows of pixels or floats.

    Distances of pixels are exact, in whatever order a machine adds up: after a shift by 128,
    products of up to `WIDTH` pixels and their sums are whole numbers that float32 holds.

    Returns:
        float64, shape `(len(some), len(others))`.
    """
    total = np.zeros((len(some), len(others)))
    for left in range(0, some.shape[1], WIDTH):
        columns = slice(left, left + WIDTH)
        one = _floats(some[:, columns])
        for top in range(0, len(others), ROWS):
            other = _floats(others[top : top + ROWS, columns])
            squares = (np.einsum("ij,ij->i", x, x).astype("float64") for x in (one, other))
            ours, theirs = squares
            total[:, top : top + ROWS] += ours[:, None] + theirs - 2 * (one @ other.T)
    return total


def _floats(rows: np.ndarray) -> np.ndarray:
    if rows.dtype == np.uint8:
        return rows.astype("float32") - np.float32(128)
    return rows.astype("float64")
