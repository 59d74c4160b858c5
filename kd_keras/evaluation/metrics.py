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


def _accuracy(predictions: Predictions) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(predictions.labels, predictions.predicted))


def _accuracies(counted: Counted) -> np.ndarray:
    return counted.predictions.correct @ counted.counts / counted.n


def _balanced_accuracy(predictions: Predictions) -> float:
    """Return the mean recall of the classes in `labels`."""
    from sklearn.metrics import recall_score

    labels, predicted = predictions.labels, predictions.predicted
    return float(recall_score(labels, predicted, labels=np.unique(labels), average="macro"))


def _balanced_accuracies(counted: Counted) -> np.ndarray:
    return mean_ratio(counted.hits, counted.support)


def _auc(predictions: Predictions) -> float | None:
    """Return the area under the ROC curve; None if `labels` hold one class only."""
    from sklearn.metrics import roc_auc_score

    labels, scores = predictions.labels, predictions.probabilities
    if len(np.unique(labels)) < 2:
        return None
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in predictions.positives]))


def _aucs(counted: Counted) -> np.ndarray:
    return areas(counted.predictions.curves, counted.counts)  # type: ignore[union-attr]


def _auc_work(predictions: Predictions) -> int:
    return len(predictions.labels) * len(predictions.positives)


def _f1(predictions: Predictions) -> float | None:
    """Return the F1 of class 1 of two, or the mean over the classes in labels or predictions.

    It is None if there are two classes, and class 1 neither occurs nor is predicted.
    """
    from sklearn.metrics import f1_score

    labels, predicted = predictions.labels, predictions.predicted
    occurring = np.union1d(labels, predicted)
    wanted = np.intersect1d(occurring, [1]) if predictions.classes == 2 else occurring
    if not len(wanted):
        return None
    return float(f1_score(labels, predicted, labels=wanted, average="macro"))


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
    return (own.predicted == own.teachers).astype(np.float64) @ counted.counts / counted.n


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
