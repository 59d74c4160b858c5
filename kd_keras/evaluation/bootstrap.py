"""Metrics over resamples of the examples: matrix products instead of a loop over resamples."""

import dataclasses

import numpy as np

from kd_keras.evaluation.answers import BINS, Answers

# what the intervals of AUC may cost: examples x classes x resamples, about two seconds
AUC_WORK = 200_000_000
# counts drawn at a time: 4 MB, which stay in a processor's cache
CHUNK = 2**19


def bootstrap(
    answers: Answers, agree: np.ndarray | None, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """One value a resample of every metric, NaN where the resample leaves it undefined."""
    n = len(answers.labels)
    rng = np.random.default_rng(seed)
    curves = [_Curve.of(answers, k) for k in answers.positives]
    with_auc = max(100, AUC_WORK // (n * len(curves)))
    chunk = max(1, CHUNK // n)
    parts = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = _draw(rng, n, size)
        part = _linear_metrics(answers, counts)
        part["auc"] = (
            _mean_ratio(*_areas(curves, counts)) if start < with_auc else np.full(size, np.nan)
        )
        if agree is not None:
            part["agreement"] = agree @ counts / n
        parts.append(part)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _draw(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """How often each example is drawn in each of `size` resamples, shape `(n, size)`."""
    drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n * size).reshape(size, n)
    return np.ascontiguousarray(counts.T, dtype=np.float64)


def _linear_metrics(answers: Answers, counts: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics but AUC: they follow from sums over the examples, weighted by `counts`."""
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    n = len(answers.labels)
    correct = answers.correct

    def sums(group: np.ndarray, groups: int, values: np.ndarray | None = None) -> np.ndarray:
        values = np.ones(n) if values is None else values
        return csr_array((values, (group, np.arange(n))), shape=(groups, n)) @ counts

    support = sums(answers.labels, answers.classes)
    chosen = sums(answers.predicted, answers.classes)
    hits = sums(answers.labels, answers.classes, correct)
    judged = slice(1, 2) if answers.classes == 2 else slice(None)
    return {
        "accuracy": correct @ counts / n,
        "balanced_accuracy": _mean_ratio(hits, support),
        "f1": _mean_ratio(2 * hits[judged], (support + chosen)[judged]),
        "nll": answers.losses @ counts / n,
        "ece": np.abs(sums(answers.bins, BINS, answers.confidence - correct)).sum(axis=0) / n,
    }


@dataclasses.dataclass(frozen=True)
class _Curve:
    """One class against the rest, sorted once by score for all resamples."""

    order: np.ndarray  # (n,) examples by rising score
    positive: np.ndarray  # (n,) which of them, in that order, are of the class
    below: np.ndarray  # (positives,) examples with a lower score than this positive's
    upto: np.ndarray  # (positives,) the same, with its ties

    @classmethod
    def of(cls, answers: Answers, k: int) -> "_Curve":
        scores = answers.probabilities[:, k]
        order = scores.argsort(kind="stable")
        positive = answers.labels[order] == k
        ranked = scores[order]
        own = ranked[positive]
        return cls(order, positive, ranked.searchsorted(own), ranked.searchsorted(own, "right"))


def _areas(curves: list[_Curve], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ordered pairs (a tie is half a pair) and all pairs, both of shape `(curves, size)`."""
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
    return ordered, pairs


def _mean_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Mean over the rows of the ratios that are defined; NaN where none is."""
    defined = denominator > 0
    ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
    count = defined.sum(axis=0)
    return np.divide(ratio.sum(axis=0), count, out=np.full(count.shape, np.nan), where=count > 0)
