"""Metrics over resamples of the examples: matrix products instead of a loop over resamples."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kd_keras.evaluation.answers import BINS, Answers, Choices

# what the intervals of AUC may cost: examples x classes x resamples, about two seconds
AUC_WORK = 200_000_000
# counts drawn at a time: 4 MB, which stay in a processor's cache
CHUNK = 2**19


def bootstrap(
    answers: Answers, agree: np.ndarray | None, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """One value per resample of every metric, NaN where the resample leaves it undefined."""
    n = len(answers.labels)
    curves = curves_of(answers)
    with_auc = max(100, AUC_WORK // (n * len(curves)))
    parts: list[dict[str, np.ndarray]] = []
    drawn = 0
    for counts in draws(np.random.default_rng(seed), n, resamples):
        counted = Counted(answers, counts)
        part = {name: function(counted) for name, function in LINEAR.items()}
        undefined = np.full(counts.shape[1], np.nan)
        part["auc"] = areas(curves, counts) if drawn < with_auc else undefined
        if agree is not None:
            part["agreement"] = agree @ counts / n
        parts.append(part)
        drawn += counts.shape[1]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def draws(rng: np.random.Generator, n: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each of `n` examples is drawn: arrays of shape `(n, some of the resamples)`."""
    chunk = max(1, CHUNK // n)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * size).reshape(size, n)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


class Counted:
    """What the metrics but AUC are made from: sums over the examples, weighted by their counts.

    Args:
        answers: to n examples; of `Choices` there are sums over classes alone.
        counts: shape `(n, size)`, how often each example is drawn in each resample.
    """

    def __init__(self, answers: Answers | Choices, counts: np.ndarray):
        self.answers, self.counts, self.n = answers, counts, len(counts)

    def sums(self, group: np.ndarray, groups: int, values: np.ndarray | None = None) -> np.ndarray:
        """Sums of `values` (ones if not given) over the examples of each group, shape
        `(groups, size)`."""
        from scipy.sparse import csr_array  # type: ignore[import-untyped]

        values = np.ones(self.n) if values is None else values
        return csr_array((values, (group, np.arange(self.n))), shape=(groups, self.n)) @ self.counts

    @functools.cached_property
    def support(self) -> np.ndarray:
        return self.sums(self.answers.labels, self.answers.classes)

    @functools.cached_property
    def chosen(self) -> np.ndarray:
        return self.sums(self.answers.predicted, self.answers.classes)

    @functools.cached_property
    def hits(self) -> np.ndarray:
        return self.sums(self.answers.labels, self.answers.classes, self.answers.correct)


def _accuracy(counted: Counted) -> np.ndarray:
    return counted.answers.correct @ counted.counts / counted.n


def _balanced_accuracy(counted: Counted) -> np.ndarray:
    return _mean_ratio(counted.hits, counted.support)


def _f1(counted: Counted) -> np.ndarray:
    judged = slice(1, 2) if counted.answers.classes == 2 else slice(None)
    return _mean_ratio(2 * counted.hits[judged], (counted.support + counted.chosen)[judged])


def _nll(counted: Counted) -> np.ndarray:
    return counted.answers.losses @ counted.counts / counted.n  # type: ignore[union-attr]


def _ece(counted: Counted) -> np.ndarray:
    answers: Any = counted.answers
    gaps = counted.sums(answers.bins, BINS, answers.confidence - answers.correct)
    return np.abs(gaps).sum(axis=0) / counted.n


LINEAR: dict[str, Callable[[Counted], np.ndarray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "nll": _nll,
    "ece": _ece,
}


@dataclasses.dataclass(frozen=True)
class Curve:
    """One class against the rest, sorted once by score for all resamples."""

    order: np.ndarray  # (n,) examples by rising score
    positive: np.ndarray  # (n,) which of them, in that order, are of the class
    below: np.ndarray  # (positives,) examples with a lower score than this positive's
    upto: np.ndarray  # (positives,) the same, with its ties

    @classmethod
    def of(cls, answers: Answers, k: int) -> "Curve":
        scores = answers.probabilities[:, k]
        order = scores.argsort(kind="stable")
        positive = answers.labels[order] == k
        ranked = scores[order]
        own = ranked[positive]
        return cls(order, positive, ranked.searchsorted(own), ranked.searchsorted(own, "right"))


def curves_of(answers: Answers) -> list[Curve]:
    """A curve for each class whose AUC counts."""
    return [Curve.of(answers, k) for k in answers.positives]


def areas(curves: list[Curve], counts: np.ndarray) -> np.ndarray:
    """AUC of each resample, the mean over the curves; a tie is half an ordered pair."""
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
    return _mean_ratio(ordered, pairs)


def _mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Mean over the rows of the ratios that are defined; NaN where none is."""
    defined = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    count = defined.sum(axis=0)
    return np.divide(ratio.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
