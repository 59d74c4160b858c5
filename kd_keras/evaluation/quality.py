"""How good a classifier's answers are: metrics on logits, with bootstrap intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kd_keras.evaluation.answers import BINS, Answers, checked_logits
from kd_keras.evaluation.bootstrap import bootstrap
from kd_keras.utils.checks import lookup, within


def _accuracy(answers: Answers) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(answers.labels, answers.predicted))


def _balanced_accuracy(answers: Answers) -> float:
    """The mean recall of the classes in `labels`."""
    from sklearn.metrics import recall_score

    present = np.unique(answers.labels)
    return float(recall_score(answers.labels, answers.predicted, labels=present, average="macro"))


def _auc(answers: Answers) -> float | None:
    """Area under the ROC curve; None where `labels` hold one class only."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(answers.labels)) < 2:
        return None
    scores = answers.probabilities
    areas = [roc_auc_score(answers.labels == k, scores[:, k]) for k in answers.positives]
    return float(np.mean(areas))


def _f1(answers: Answers) -> float | None:
    """F1 of class 1 of two, else the mean over the classes that occur in labels or answers.

    None where there are two classes, and class 1 neither occurs nor is predicted.
    """
    from sklearn.metrics import f1_score

    occurring = np.union1d(answers.labels, answers.predicted)
    wanted = np.intersect1d(occurring, [1]) if answers.classes == 2 else occurring
    if not len(wanted):
        return None
    return float(f1_score(answers.labels, answers.predicted, labels=wanted, average="macro"))


def _nll(answers: Answers) -> float:
    return float(answers.losses.mean())


def _ece(answers: Answers) -> float:
    gaps = np.bincount(answers.bins, answers.confidence - answers.correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(answers.labels))


METRICS: dict[str, Callable[[Answers], float | None]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "auc": _auc,
    "f1": _f1,
    "nll": _nll,
    "ece": _ece,
}


def score(metric: str, logits: Any, labels: Any) -> float:
    """One metric as a number. Larger is better, but for `nll` and `ece`.

    Args:
        metric: a name in `METRICS`; `evaluate` says what each is.
        logits: shape `(n, classes)`, unnormalised, finite, any float type.
        labels: shape `(n,)`, integers in `[0, classes)`.

    Raises:
        ValueError: an unknown metric, wrong shapes, NaN or infinite logits, or a metric that
            these labels leave undefined (AUC of one class).

    Example:
        >>> score("accuracy", [[2.0, 0.0], [0.0, 1.0]], [0, 0])
        0.5
    """
    function = lookup("metric", METRICS, metric)
    answers = Answers.of(logits, labels)
    value = function(answers)
    if value is None:
        held = np.unique(answers.labels).tolist()
        raise ValueError(f"`{metric}` is undefined where `labels` hold only the classes {held}.")
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
    """Every metric, with intervals, as plain Python numbers that JSON can hold.

    The intervals are percentile bootstraps over the examples; each resample serves all
    metrics. They tell how sure one test set makes us of one trained model, not how much
    training again would change it. A resample that lacks a class judges the classes it has;
    one that leaves a metric undefined is left out of that metric's interval. The interval of
    ECE lies somewhat high, since resampling adds noise to each bin. For data so large that
    AUC would take long (`AUC_WORK`), its interval comes from the first resamples only, at
    least 100.

    Args:
        logits: shape `(n, classes)`, two classes or more, unnormalised, finite, any float type.
        labels: shape `(n,)`, integers in `[0, classes)`.
        teacher_logits: shape `(n, classes)`, to report how often both choose the same class.
        resamples: number of bootstrap resamples; 0 leaves the intervals out.
        seed: of the resampling.
        confidence: mass of the intervals, between 0 and 1.

    Returns:
        `examples`: n.
        `accuracy`; `balanced_accuracy`: the mean recall of the classes in `labels`;
        `auc`: of class 1 of two, by its softmax probability, else the mean over the classes
        in `labels`, one against the rest; None where `labels` hold one class only;
        `f1`: of class 1 of two, else the mean over the classes that occur in labels or
        answers; None where class 1 of two neither occurs nor is predicted;
        `nll`: mean negative log-likelihood, in nats; `ece`: expected calibration error of the
        chosen class over 15 bins of equal width;
        `confusion`: counts, a list of rows, a row a true class, a column a predicted one;
        `reliability`: `{"confidence", "accuracy", "count"}`, one entry a bin, None for the
        means of an empty bin;
        `agreement`: the share of examples where teacher and student choose the same class
        (with `teacher_logits` only);
        `intervals`: `{metric: [low, high]}`, None for a metric that is undefined.

    Raises:
        ValueError: wrong shapes, labels outside the classes, NaN or infinite logits.

    Example:
        >>> result = evaluate([[2.0, 0.0], [0.0, 1.0]], [0, 1], resamples=100)
        >>> result["accuracy"], result["intervals"]["accuracy"], result["confusion"]
        (1.0, [1.0, 1.0], [[1, 0], [0, 1]])
    """
    answers = Answers.of(logits, labels)
    agree = None if teacher_logits is None else _agreement(answers, teacher_logits)
    within("confidence", confidence, 0.0, 1.0)
    if resamples < 0:
        raise ValueError(f"`resamples` must be 0 or more. Received: resamples={resamples!r}")
    result: dict[str, Any] = {"examples": len(answers.labels)}
    result |= {name: function(answers) for name, function in METRICS.items()}
    if agree is not None:
        result["agreement"] = float(agree.mean())
    result["confusion"] = _confusion(answers)
    result["reliability"] = _reliability(answers)
    if resamples:
        values = bootstrap(answers, agree, resamples, seed)
        result["intervals"] = {k: _interval(v, confidence) for k, v in values.items()}
    return result


def _confusion(answers: Answers) -> list[list[int]]:
    from sklearn.metrics import confusion_matrix

    classes = range(answers.classes)
    return confusion_matrix(answers.labels, answers.predicted, labels=classes).tolist()


def _reliability(answers: Answers) -> dict[str, list]:
    count = np.bincount(answers.bins, minlength=BINS)

    def mean_in_bins(values: np.ndarray) -> list[float | None]:
        sums = np.bincount(answers.bins, values, minlength=BINS)
        return [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]

    return {
        "confidence": mean_in_bins(answers.confidence),
        "accuracy": mean_in_bins(answers.correct),
        "count": count.tolist(),
    }


def _agreement(answers: Answers, teacher_logits: Any) -> np.ndarray:
    """1.0 where student and teacher choose the same class, shape `(n,)`."""
    teacher = checked_logits("teacher_logits", teacher_logits)
    if teacher.shape != answers.log_probabilities.shape:
        raise ValueError(
            f"`teacher_logits` must have the shape of `logits`, {answers.log_probabilities.shape}. "
            f"Received: {teacher.shape}"
        )
    return (teacher.argmax(axis=1) == answers.predicted).astype(np.float64)


def _interval(values: np.ndarray, confidence: float) -> list[float] | None:
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = (1.0 - confidence) / 2
    return np.quantile(values, [tail, 1.0 - tail]).tolist()
