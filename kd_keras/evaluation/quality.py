"""The quality of a classifier's predictions: metrics on logits, with bootstrap intervals."""

from typing import Any

import numpy as np

from kd_keras.evaluation.metrics import METRICS, Metric, without_teacher
from kd_keras.evaluation.predictions import BINS, Predictions
from kd_keras.evaluation.resampling import Counted, same_draws
from kd_keras.utils.checks import lookup, within


def score(metric: str, logits: Any, labels: Any) -> float:
    """Return one metric as a number.

    Args:
        metric: a name in `METRICS`, of a metric that needs no teacher; `evaluate` explains each.
        logits: shape `(n, classes)`, unnormalised, finite, any float type.
        labels: shape `(n,)`, integers in `[0, classes)`.

    Raises:
        ValueError: for an unknown metric, wrong shapes, NaN or infinite logits, or a metric that
            these labels leave undefined (AUC of one class).

    Example:
        >>> score("accuracy", [[2.0, 0.0], [0.0, 1.0]], [0, 0])
        0.5
    """
    function = lookup("metric", without_teacher(), metric).function
    predictions = Predictions.of(logits, labels)
    value = function(predictions)
    if value is None:
        held = np.unique(predictions.labels).tolist()
        raise ValueError(f"`{metric}` is undefined if `labels` hold only the classes {held}.")
    return value


def evaluate(
    logits: Any,
    labels: Any,
    *,
    teacher_logits: Any = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Compute every metric, with intervals, as plain Python numbers that JSON can hold.

    The intervals are percentile bootstraps over the examples; each resample serves all
    metrics. They show how certain one test set makes us of one trained model, not how much
    retraining would change it. A resample that lacks a class evaluates the classes it has;
    one that leaves a metric undefined is left out of that metric's interval. The interval of
    ECE lies somewhat high, since resampling adds noise to each bin. For data so large that
    AUC would take long (`metrics.WORK`), its interval comes from the first resamples only, at
    least 100.

    Args:
        logits: shape `(n, classes)`, two classes or more, unnormalised, finite, any float type.
        labels: shape `(n,)`, integers in `[0, classes)`.
        teacher_logits: shape `(n, classes)`, to report how often teacher and student choose the
            same class.
        resamples: number of bootstrap resamples; 0 leaves the intervals out.
        seed: the seed of the resampling.
        confidence: mass of the intervals, between 0 and 1.

    Returns:
        `examples`: n.
        `accuracy`; `balanced_accuracy`: the mean recall of the classes in `labels`;
        `auc`: of class 1 of two, by its softmax probability, otherwise the mean over the classes
        in `labels`, one against the rest; None if `labels` hold one class only;
        `f1`: of class 1 of two, otherwise the mean over the classes that occur in labels or
        predictions; None if class 1 of two neither occurs nor is predicted;
        `nll`: mean negative log-likelihood, in nats; `ece`: expected calibration error of the
        chosen class over 15 bins of equal width;
        `confusion`: counts, a list of rows: a row per true class, a column per predicted class;
        `reliability`: `{"confidence", "accuracy", "count"}`, one entry per bin, None for the
        means of an empty bin;
        `agreement`: the share of examples where teacher and student choose the same class
        (with `teacher_logits` only);
        `intervals`: `{metric: [low, high]}`, None for a metric that is undefined.

    Raises:
        ValueError: for wrong shapes, labels outside the classes, or NaN or infinite logits.

    Example:
        >>> result = evaluate([[2.0, 0.0], [0.0, 1.0]], [0, 1], resamples=100)
        >>> result["accuracy"], result["intervals"]["accuracy"], result["confusion"]
        (1.0, [1.0, 1.0], [[1, 0], [0, 1]])
    """
    predictions = Predictions.of(logits, labels, teacher_logits)
    within("confidence", confidence, 0.0, 1.0)
    if resamples < 0:
        raise ValueError(f"`resamples` must be 0 or more. Received: resamples={resamples!r}")
    measured = list((METRICS if teacher_logits is not None else without_teacher()).values())
    result: dict[str, Any] = {"examples": len(predictions.labels)}
    result |= {metric.name: metric.function(predictions) for metric in measured}
    result["confusion"] = predictions.confusion.tolist()
    result["reliability"] = _reliability(predictions)
    if resamples:
        wanted = [metric for metric in measured if metric.interval]
        values = _bootstrap(wanted, predictions, resamples, seed)
        result["intervals"] = {k: _interval(v, confidence) for k, v in values.items()}
    return result


def _bootstrap(
    metrics: list[Metric], predictions: Predictions, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Return one value per resample of every metric; fewer for a costly one."""
    limits = {metric.name: metric.affordable(predictions, resamples) for metric in metrics}
    parts: dict[str, list[np.ndarray]] = {metric.name: [] for metric in metrics}
    drawn = 0
    for counts in same_draws(seed, len(predictions.labels), resamples):
        counted = Counted(predictions, counts)
        for metric in metrics:
            if drawn < limits[metric.name]:
                parts[metric.name].append(metric.over_resamples(counted))
        drawn += counts.shape[1]
    return {name: np.concatenate(part) for name, part in parts.items()}


def _reliability(predictions: Predictions) -> dict[str, list]:
    count = np.bincount(predictions.bins, minlength=BINS)

    def mean_in_bins(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(predictions.bins, values, minlength=BINS)
        return [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]

    return {
        "confidence": mean_in_bins(predictions.confidence),
        "accuracy": mean_in_bins(predictions.correct),
        "count": count.tolist(),
    }


def _interval(values: np.ndarray, confidence: float) -> list[float] | None:
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = (1.0 - confidence) / 2
    return np.quantile(values, [tail, 1.0 - tail]).tolist()
