"""Offsets of some logits, which correct the biases of classes that a model predicts too rarely.

A student that has never seen a class, or has seen too much of it, may know it well and still have a
wrong bias in its last layer. One number, added to the logits of these classes, then mends much of
it. It changes no other weight.

Source: Hinton, Vinyals and Dean, *Distilling the Knowledge in a Neural Network* (2015), section 3.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_keras.evaluation.predictions import Predictions, checked_logits

BEYOND = 1.0  # distance of an offset from the last change, if all offsets beyond it are best


def added(logits: Any, classes: Sequence[int], offset: float) -> np.ndarray:
    """Return logits with an offset added to those of some classes, as to their biases.

    Args:
        logits: shape `(n, classes)`, unnormalised, finite, any float type.
        classes: the numbers of the classes, different ones, not all that there are.
        offset: any finite number.

    Returns:
        float64, the shape of `logits`, which are not changed.

    Raises:
        ValueError: for logits of another shape, NaN or infinite; for classes that do not fit.

    Example:
        >>> added([[2.0, 1.0, 0.0]], [1, 2], 0.5)
        array([[2. , 1.5, 0.5]])
    """
    found = checked_logits("logits", logits).copy()
    found[:, _chosen(classes, found.shape[1])] += offset
    return found


def best(logits: Any, labels: Any, classes: Sequence[int]) -> float:
    """Return the offset of some classes' logits with which the most examples are predicted rightly.

    All offsets are tried: the number of errors changes only where the largest logit of these
    classes passes the largest of the others. Of the offsets that are equally good, it is the middle
    of the widest interval, and 0 if that is one of them.

    Args:
        logits: shape `(n, classes)`, unnormalised, finite, any float type. Those of validation: an
            offset that is chosen on the examples that it is tested on promises too much.
        labels: shape `(n,)`, integers in `[0, classes)`.
        classes: the numbers of the classes whose logits it is added to, different ones, not all
            that there are.

    Raises:
        ValueError: for wrong shapes, labels outside the classes, NaN or infinite logits, or classes
            that do not fit.

    Example:
        >>> logits = [[3.0, 1.0], [2.0, 1.5], [2.0, 0.0]]
        >>> best(logits, [0, 1, 0], [1])
        1.25
    """
    logits = checked_logits("logits", logits)
    labels = Predictions.of(logits, labels).labels
    ours = _chosen(classes, logits.shape[1])
    others = np.setdiff1d(np.arange(logits.shape[1]), ours)
    first, second = (logits[:, group].max(axis=1) for group in (others, ours))
    right_before = others[logits[:, others].argmax(axis=1)] == labels
    right_after = ours[logits[:, ours].argmax(axis=1)] == labels
    # above this offset, an example is predicted to be of our classes
    passed = first - second
    places, place_of = np.unique(passed, return_inverse=True)
    gained = np.zeros(len(places), int)
    np.add.at(gained, place_of, right_after.astype(int) - right_before.astype(int))
    right = right_before.sum() + np.concatenate([[0], gained.cumsum()])  # below, between, above
    edges = np.concatenate([[places[0] - 2 * BEYOND], places, [places[-1] + 2 * BEYOND]])
    return _middle(edges, right == right.max())


def _middle(edges: np.ndarray, equally_good: np.ndarray) -> float:
    """Return 0 if it lies in one of the good intervals, else the middle of the widest of them.

    Args:
        edges: the ends of the intervals, ascending; the first and the last interval have none.
        equally_good: for each interval whether it is good; neighbours that are both good are one.
    """
    starts = np.flatnonzero(equally_good & ~np.concatenate([[False], equally_good[:-1]]))
    ends = np.flatnonzero(equally_good & ~np.concatenate([equally_good[1:], [False]])) + 1
    low, high = edges[starts], edges[ends]
    open_low = np.where(starts == 0, -np.inf, low)
    open_high = np.where(ends == len(edges) - 1, np.inf, high)
    if ((open_low < 0) & (open_high > 0)).any():
        return 0.0
    widest = int(np.argmax(high - low))
    return float((low[widest] + high[widest]) / 2)


def _chosen(classes: Sequence[int], count: int) -> np.ndarray:
    """Return the numbers of classes as an array; raise `ValueError` for numbers that do not fit."""
    found = np.unique(np.asarray(classes, int))
    if not 0 < len(found) == len(classes) < count or found[0] < 0 or found[-1] >= count:
        raise ValueError(
            f"`classes` must be different numbers from 0 to {count - 1}, one or more, and not all "
            f"of them. Received: classes={list(classes)}"
        )
    return found
