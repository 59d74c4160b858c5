"""MUNGE: made-up examples that stay near the real ones, for a transfer set without labels.

Every example exchanges some of its attributes with its nearest neighbour, with noise as wide as
they are apart. It is sequential and in place: a neighbour is looked for among the examples as
those before have left them. To find all neighbours first is another algorithm.
"""

from collections.abc import Iterator

import numpy as np

from kd_keras.utils.checks import positive, positive_int, within

# examples whose neighbours are looked for at a time: more make larger products, and more to be
# computed again; and bytes of their distances
BLOCK, BLOCK_BYTES = 128, 1 << 26
ROWS, WIDTH = 1 << 12, 1 << 10  # of examples, in a product of matrices


def munge(
    examples: np.ndarray,
    *,
    copies: int = 1,
    swap: float = 0.5,
    sharpness: float = 5.0,
    seed: int = 0,
) -> np.ndarray:
    """Made-up examples like the given ones, `copies` times as many.

    A copy begins as the examples themselves. Then each in its turn finds its nearest neighbour e'
    (Euclidean, not itself) and, for every attribute with probability `swap`, the two values x of e
    and y of e' become draws from `Normal(y, d)` and `Normal(x, d)`, `d = |x - y| / sharpness`.

    Args:
        examples: shape `(n, ...)`, two or more: uint8 pixels; or floats, every attribute scaled to
            [0, 1], for the distances to mean something. Attributes of kinds have no place here.
        copies: how many times as many there are to be.
        swap: the probability that an attribute is exchanged, in [0, 1].
        sharpness: the larger, the smaller the noise; infinity exchanges without any.
        seed: of the draws. Copies of one number are the same whatever `copies` is.

    Returns:
        Shape `(copies * n, ...)`, of the dtype of `examples`; one copy after the other. Pixels are
        rounded, and clipped to 0..255. The same arguments give the same pixels on every machine
        with the same numpy: their distances are computed in whole numbers.

    Raises:
        ValueError: for other examples, or arguments out of range.

    Source: Bucila, Caruana and Niculescu-Mizil, *Model Compression* (2006), section 3; the
    clipping is ours, and all pixels share one range in place of one each.

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
            "`examples` must be two or more, of shape (n, ...), uint8 or floats. "
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
    """Every row in its turn, and its nearest other row at that time.

    Between two steps the caller may change these two rows, and no other. The distances of many rows
    to all are one product of matrices; what a step changes of them is computed again.

    Args:
        rows: uint8 or floats, shape `(n, size)`. Of equally near pixels it is the first row.
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
            later = example + 1 - first  # of the block: those that still have their turn
            for changed in (example, other):
                column = squared_distances(rows[example + 1 : end], rows[changed][None])
                apart[later:, changed] = column[:, 0]
            if example < other < end:
                apart[other - first] = squared_distances(rows[other][None], rows)[0]
                apart[other - first, other] = np.inf


def squared_distances(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of rows of pixels or floats to others: float64, shape `(len(some), len(others))`.

    Those of pixels are exact, in whatever order a machine adds up: shifted by 128, products of up
    to `WIDTH` of them and their sums are whole numbers that float32 holds.
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
