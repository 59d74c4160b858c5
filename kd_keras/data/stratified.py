"""Cut a share of examples off, with the same mix of classes on both sides."""

import math

import numpy as np


def cut(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that stay and those that are cut off, both in rising order.

    They are those of scikit-learn's `train_test_split` with `stratify`, for the same seed, so that
    a split can be made again with either; importing scikit-learn takes a second.

    Args:
        labels: shape `(n,)`, class numbers.
        share: of the examples to cut off, above 0 and below 1; rounded up to whole examples.
        seed: decides which examples are cut off.

    Raises:
        ValueError: if there are too few examples for every class to be on both sides.

    Example:
        >>> stay, off = cut(np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]), share=1 / 3, seed=0)
        >>> len(stay), len(off)
        (6, 3)
    """
    count = len(labels)
    held = math.ceil(share * count)
    kinds, kind, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if sizes.min(initial=count) < 2:
        raise ValueError(f"class {kinds[sizes.argmin()]} has a single image, and needs two")
    if min(held, count - held) < len(kinds):
        raise ValueError(
            f"{len(kinds)} classes do not fit into a part of {min(held, count - held)} images"
        )
    rng = np.random.RandomState(seed)
    stay = _of_each(sizes, count - held, rng)
    off = _of_each(sizes - stay, held, rng)
    parts: tuple[list, list] = ([], [])
    of_kind = np.split(np.argsort(kind, kind="stable"), sizes.cumsum()[:-1])
    for rows, first, then in zip(of_kind, stay, off, strict=True):
        drawn = rows[rng.permutation(len(rows))]
        parts[0].append(drawn[:first])
        parts[1].append(drawn[first : first + then])
    one, other = (np.sort(np.concatenate(part)) for part in parts)
    return one, other


def _of_each(sizes: np.ndarray, count: int, rng: np.random.RandomState) -> np.ndarray:
    """Return how many of `count` examples each class gets; equal remainders are drawn for."""
    exact = sizes / sizes.sum() * count
    whole = np.floor(exact)
    missing = int(count - whole.sum())
    rest = exact - whole
    for value in np.unique(rest)[::-1]:
        if not missing:
            break
        (tied,) = np.where(rest == value)
        some = min(len(tied), missing)
        whole[rng.choice(tied, size=some, replace=False)] += 1
        missing -= some
    return whole.astype(int)
