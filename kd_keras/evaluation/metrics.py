"""The metrics of predictions, `METRICS`: tables, intervals, reports and choices follow it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from kd_keras.evaluation.predictions import BINS, Predictions
from kd_keras.evaluation.resampling import Counted, areas, mean_ratio

# the `work` that the interval of a costly metric may take: about two seconds
WORK = 200_000_000
LEAST = 100  # resamples that are drawn whatever they cost


@dataclasses.dataclass(frozen=True)
class Metric:
    """One measure of how good predictions are.

    Attributes:
        name: the name in results, options and commands.
        title: the name in tables and plots, with its unit if it has one.
        function: from predictions to a number; None if the labels leave it undefined.
        resample: the same for all resamples at once, shape `(resamples,)`, NaN where undefined.
            If not given, `function` is called for each of them.
        higher_is_better: whether higher values are better. If not, no epoch is chosen by it.
        interval: whether its confidence interval is reported.
        by_class: whether the predicted classes alone decide it, so that logits need not be stored.
        of_teacher: whether it compares with a teacher's predictions; left out if there are none.
        work: multiplications per resample, if they are so many that resamples must be few.

    Example:
        >>> right = Metric("right", "right answers", lambda p: float(p.correct.sum()))
        >>> right.function(Predictions.of([[2.0, 0.0], [0.0, 1.0]], [0, 0]))
        1.0
    """

    name: str
    title: str
    function: Callable[[Predictions], float | None]
    resample: Callable[[Counted], np.ndarray] | None = None
    higher_is_better: bool = True
    interval: bool = True
    by_class: bool = False
    of_teacher: bool = False
    work: Callable[[Predictions], int] | None = None

    def over_resamples(self, counted: Counted) -> np.ndarray:
        """Return the value in each resample, shape `(resamples,)`; NaN where it is undefined."""
        if self.resample is not None:
            return self.resample(counted)
        return np.array([self._of_one(counted, column) for column in counted.counts.T], np.float64)

    def affordable(self, predictions: Predictions, asked: int, models: float = 1) -> int:
        """Return how many of the requested resamples the interval may take."""
        if self.resample is None:
            work = predictions.log_probabilities.size * 20  # the cost of a call, by experience
        elif self.work is not None:
            work = self.work(predictions)
        else:
            return asked
        return min(asked, max(LEAST, int(WORK / (work * models))))

    def _of_one(self, counted: Counted, counts: np.ndarray) -> float:
        rows = np.repeat(np.arange(counted.n), counts.astype(np.int64))
        value = self.function(counted.predictions.taken(rows))  # type: ignore[union-attr]
        return np.nan if value is None else value


# The metrics are those of scikit-learn, to the last bit; importing it takes a second.


def _accuracy(predictions: Predictions) -> float:
    return float(predictions.correct.mean())


def _accuracies(counted: Counted) -> np.ndarray:
    return counted.share(counted.predictions.correct == 1)


def _balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall of the classes in `labels`."""
    confusion = predictions.confusion
    support = confusion.sum(axis=1)
    there = support > 0
    return float((confusion.diagonal()[there] / support[there]).mean())


def _balanced_accuracies(counted: Counted) -> np.ndarray:
    return mean_ratio(counted.hits, counted.support)


def _auc(predictions: Predictions) -> float | None:
    """Return the area under the ROC curve; None if `labels` hold one class only."""
    labels, scores = predictions.labels, predictions.probabilities
    if len(np.unique(labels)) < 2:
        return None
    return float(np.mean([roc_area(labels == k, scores[:, k]) for k in predictions.positives]))


def roc_area(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve, by trapezoids; a tie counts as half an ordered pair.

    Args:
        positive: bool, shape `(n,)`, not all equal.
        scores: shape `(n,)`; higher for positives.

    Example:
        >>> roc_area(np.array([True, True, False]), np.array([0.9, 0.4, 0.4]))
        0.75
    """
    order = scores.argsort(kind="stable")[::-1]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    right = positive[order].cumsum(dtype=np.float64)[ends]
    wrong = 1.0 + ends - right
    # without the points within straight lines: the sum rounds as scikit-learn's does
    corner = np.ones(len(ends), bool)
    corner[1:-1] = (np.diff(wrong, 2) != 0) | (np.diff(right, 2) != 0)
    right, wrong = (np.append(0.0, counts[corner]) / counts[-1] for counts in (right, wrong))
    return float(np.trapezoid(right, wrong))


def _aucs(counted: Counted) -> np.ndarray:
    return areas(counted.predictions.curves, counted)  # type: ignore[union-attr]


def _auc_work(predictions: Predictions) -> int:
    return len(predictions.labels) * len(predictions.positives)


def _f1(predictions: Predictions) -> float | None:
    """Return the F1 of class 1 of two, or the mean over the classes in labels or predictions.

    It is None if there are two classes, and class 1 neither occurs nor is predicted.
    """
    confusion = predictions.confusion
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    wanted = either > 0
    if predictions.classes == 2:
        wanted[0] = False
    if not wanted.any():
        return None
    return float((2 * confusion.diagonal()[wanted] / either[wanted]).mean())


def _f1s(counted: Counted) -> np.ndarray:
    judged = slice(1, 2) if counted.predictions.classes == 2 else slice(None)
    return mean_ratio(2 * counted.hits[judged], (counted.support + counted.predicted)[judged])


def _nll(predictions: Predictions) -> float:
    return float(predictions.losses.mean())


def _nlls(counted: Counted) -> np.ndarray:
    return counted.predictions.losses @ counted.counts / counted.n  # type: ignore[union-attr]


def _ece(predictions: Predictions) -> float:
    gaps = predictions.confidence - predictions.correct
    sums = np.bincount(predictions.bins, gaps, minlength=BINS)
    return float(np.abs(sums).sum() / len(predictions.labels))


def _eces(counted: Counted) -> np.ndarray:
    own: Any = counted.predictions
    gaps = counted.sums(own.bins, BINS, own.confidence - own.correct)
    return np.abs(gaps).sum(axis=0) / counted.n


def _agreement(predictions: Predictions) -> float:
    return float((predictions.predicted == predictions.teachers).mean())


def _agreements(counted: Counted) -> np.ndarray:
    own: Any = counted.predictions
    return counted.share(own.predicted == own.teachers)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", _accuracy, _accuracies, by_class=True),
        Metric(
            *("balanced_accuracy", "balanced accuracy", _balanced_accuracy, _balanced_accuracies),
            by_class=True,
        ),
        Metric("auc", "AUC", _auc, _aucs, work=_auc_work),
        Metric("f1", "F1", _f1, _f1s),
        Metric("nll", "NLL (nats)", _nll, _nlls, higher_is_better=False),
        Metric("ece", "calibration error", _ece, _eces, higher_is_better=False),
        Metric("agreement", "agreement with teacher", _agreement, _agreements, of_teacher=True),
    )
}


def without_teacher() -> dict[str, Metric]:
    """Return the metrics that need no teacher."""
    return {name: metric for name, metric in METRICS.items() if not metric.of_teacher}


def choices() -> list[str]:
    """Return the metrics by which an epoch, a setting or a trial can be chosen."""
    return [name for name, metric in without_teacher().items() if metric.higher_is_better]


def title(name: str) -> str:
    """Return the title of a metric in tables; the name itself if it is not known here.

    Example:
        >>> title("nll"), title("of_another_version")
        ('NLL (nats)', 'of_another_version')
    """
    return METRICS[name].title if name in METRICS else name
