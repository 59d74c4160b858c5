"""Resample the examples, by matrix products instead of a loop over resamples."""

import functools
from collections.abc import Iterator

import numpy as np

from kd_keras.evaluation.predictions import Curve, PredictedClasses, Predictions

# counts drawn at a time: 4 MB, which fit in a processor's cache
CHUNK = 2**19
# bytes of counts, at most, that are kept for the next model evaluated on the same examples
KEPT = 2**26


def draws(rng: np.random.Generator, n: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield how often each of `n` examples is drawn, in arrays of shape `(n, some resamples)`."""
    chunk = max(1, CHUNK // n)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(n, size=(size, n))
        counts = np.stack([np.bincount(one, minlength=n) for one in drawn], axis=1)
        yield counts.astype(np.float64)


def same_draws(seed: int, n: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield what `draws` yields for a new generator of this seed.

    Drawing takes longer than most metrics, and all models of a run are evaluated on one test split
    with one seed: the counts of the last call are kept, unless they are large.
    """
    if n * resamples > KEPT:
        yield from draws(np.random.default_rng(seed), n, resamples)
        return
    for counts in _kept(seed, n, resamples):
        yield counts.astype(np.float64)


@functools.lru_cache(maxsize=1)
def _kept(seed: int, n: int, resamples: int) -> list[np.ndarray]:
    """Return the counts in one byte each; two if an example is drawn more than 255 times."""
    drawn = draws(np.random.default_rng(seed), n, resamples)
    return [counts.astype(np.min_scalar_type(int(counts.max()))) for counts in drawn]


class Counted:
    """Predictions with their counts in each resample, and sums weighted by these counts.

    Args:
        predictions: for n examples; `PredictedClasses` allow sums over classes alone.
        counts: shape `(n, size)`, how often each example is drawn in each resample.
    """

    def __init__(self, predictions: Predictions | PredictedClasses, counts: np.ndarray):
        self.predictions, self.counts, self.n = predictions, counts, len(counts)

    def share(self, held: np.ndarray) -> np.ndarray:
        """Return the share of drawn examples for which `held`, bool, is True; shape `(size,)`."""
        lacking = self.counts[~held].sum(axis=0)  # few, for a good model
        return (self.n - lacking) / self.n

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


def areas(curves: list[Curve], counted: Counted) -> np.ndarray:
    """Return the area under the ROC curve in each resample, the mean over the curves.

    A tie counts as half an ordered pair. Pairs are whole numbers, so that the sums are exact in
    any order.
    """
    support = counted.support
    ordered, pairs = np.empty((2, len(curves), support.shape[1]))
    for row, curve in enumerate(curves):
        positives, negatives = curve.sums(counted.counts)
        # negatives with a higher score than the positives of a block; half of those with its own
        above = negatives[::-1].cumsum(axis=0)[::-1] - 0.5 * negatives
        own = support[curve.number]
        pairs[row] = own * (counted.n - own)
        ordered[row] = pairs[row] - np.einsum("ij,ij->j", positives, above)
    return mean_ratio(ordered, pairs)


def mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the mean over the rows of the ratios that are defined; NaN if none is."""
    defined = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    count = defined.sum(axis=0)
    return np.divide(ratio.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
