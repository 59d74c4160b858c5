"""Resample the examples, by matrix products instead of a loop over resamples."""

import functools
from collections.abc import Iterator

import numpy as np

from kd_keras.evaluation.predictions import Curve, PredictedClasses, Predictions

# counts drawn at a time: 4 MB, which fit in a processor's cache
CHUNK = 2**19


def draws(rng: np.random.Generator, n: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each of `n` examples is drawn, in arrays of shape `(n, some resamples)`."""
    chunk = max(1, CHUNK // n)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * size).reshape(size, n)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


class Counted:
    """Predictions with their counts in each resample, and sums weighted by these counts.

    Args:
        predictions: for n examples; `PredictedClasses` allow sums over classes alone.
        counts: shape `(n, size)`, how often each example is drawn in each resample.
    """

    def __init__(self, predictions: Predictions | PredictedClasses, counts: np.ndarray):
        self.predictions, self.counts, self.n = predictions, counts, len(counts)

    def sums(self, group: np.ndarray, groups: int, values: np.ndarray | None = None) -> np.ndarray:
        """Return the sums of `values` over the examples of each group, shape `(groups, size)`.

        If `values` are not given, they are ones.
        """
        from scipy.sparse import csr_array  # type: ignore[import-untyped]

        values = np.ones(self.n) if values is None else values
        return csr_array((values, (group, np.arange(self.n))), shape=(groups, self.n)) @ self.counts

    @functools.cached_property
    def support(self) -> np.ndarray:
        return self.sums(self.predictions.labels, self.predictions.classes)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        return self.sums(self.predictions.predicted, self.predictions.classes)

    @functools.cached_property
    def hits(self) -> np.ndarray:
        return self.sums(
            self.predictions.labels, self.predictions.classes, self.predictions.correct
        )


def areas(curves: list[Curve], counts: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve in each resample, the mean over the curves.

    A tie counts as half an ordered pair.
    """
    ordered, pairs = np.empty((2, len(curves), counts.shape[1]))
    negatives = np.zeros((len(counts) + 1, counts.shape[1]))
    for row, curve in enumerate(curves):
        ranked = counts[curve.order]
        own = ranked[curve.positive]
        ranked[curve.positive] = 0.0
        np.cumsum(ranked, axis=0, out=negatives[1:])
        won = negatives[curve.below] + negatives[curve.upto]
        ordered[row] = 0.5 * np.einsum("ij,ij->j", own, won)
        pairs[row] = own.sum(axis=0) * negatives[-1]
    return mean_ratio(ordered, pairs)


def mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the mean over the rows of the ratios that are defined; NaN if none is."""
    defined = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    count = defined.sum(axis=0)
    return np.divide(ratio.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
