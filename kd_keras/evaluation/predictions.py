"""Checked predictions of a classifier for labelled examples: the basis of all metrics."""

import dataclasses
import functools
from typing import Any

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Checked predictions for n examples, in float64.

    Attributes:
        labels: shape `(n,)`, int64.
        log_probabilities: shape `(n, classes)`.
        teachers: the classes that a teacher predicts, shape `(n,)`; None if there is none.
    """

    labels: np.ndarray
    log_probabilities: np.ndarray
    teachers: np.ndarray | None = None

    @classmethod
    def of(cls, logits: Any, labels: Any, teacher_logits: Any = None) -> "Predictions":
        """Check logits and labels, and return the predictions.

        Raises:
            ValueError: for wrong shapes, labels outside the classes, or NaN or infinite logits.
        """
        logits = checked_logits("logits", logits)
        labels = _checked_labels(labels, *logits.shape)
        return cls(labels, _log_softmax(logits), _teachers(teacher_logits, logits.shape))

    def taken(self, rows: np.ndarray) -> "Predictions":
        """Return the predictions for some of the examples, by their rows; a row may occur twice."""
        teachers = None if self.teachers is None else self.teachers[rows]
        return Predictions(self.labels[rows], self.log_probabilities[rows], teachers)

    @property
    def classes(self) -> int:
        return self.log_probabilities.shape[1]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        return np.exp(self.log_probabilities)

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        return self.log_probabilities.argmax(axis=1)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        return (self.predicted == self.labels).astype(np.float64)

    @functools.cached_property
    def confidence(self) -> np.ndarray:
        return np.exp(self.log_probabilities.max(axis=1))

    @functools.cached_property
    def losses(self) -> np.ndarray:
        return 0.0 - self.log_probabilities[np.arange(len(self.labels)), self.labels]

    @functools.cached_property
    def bins(self) -> np.ndarray:
        """The reliability bin of each example; bin b holds confidences in (b/15, (b+1)/15]."""
        return np.clip(np.ceil(self.confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)

    @functools.cached_property
    def positives(self) -> np.ndarray:
        """The classes whose AUC counts: class 1 of two, otherwise those in `labels`."""
        return np.array([1]) if self.classes == 2 else np.unique(self.labels)

    @functools.cached_property
    def curves(self) -> "list[Curve]":
        """One curve for each class whose AUC counts."""
        return [Curve.of(self, k) for k in self.positives]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One class against the rest, sorted once by score for all resamples."""

    order: np.ndarray  # (n,) examples by rising score
    positive: np.ndarray  # (n,) which of them, in that order, belong to the class
    below: np.ndarray  # (positives,) examples with a lower score than this positive's
    upto: np.ndarray  # (positives,) the same, with its ties

    @classmethod
    def of(cls, predictions: Predictions, k: int) -> "Curve":
        scores = predictions.probabilities[:, k]
        order = scores.argsort(kind="stable")
        positive = predictions.labels[order] == k
        ranked = scores[order]
        own = ranked[positive]
        return cls(order, positive, ranked.searchsorted(own), ranked.searchsorted(own, "right"))


@dataclasses.dataclass(frozen=True)
class PredictedClasses:
    """The classes predicted for n examples: all that some metrics need, such as accuracy."""

    labels: np.ndarray  # (n,) int64
    predicted: np.ndarray  # (n,) int64
    classes: int

    @classmethod
    def of(cls, name: str, predicted: Any, labels: Any) -> "PredictedClasses":
        predicted = np.asarray(predicted)
        if predicted.ndim != 1 or not np.issubdtype(predicted.dtype, np.integer):
            raise ValueError(
                f"`{name}` must hold logits of shape (examples, classes), or the numbers of the "
                f"predicted classes, integers of shape (examples,). Received: {predicted.dtype} of "
                f"shape {predicted.shape}"
            )
        classes = 1 + int(max(predicted.max(initial=0), np.max(labels, initial=0)))
        return cls(
            _checked_labels(labels, len(predicted), classes), predicted.astype(np.int64), classes
        )

    @functools.cached_property
    def correct(self) -> np.ndarray:
        return (self.predicted == self.labels).astype(np.float64)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def checked_logits(name: str, logits: Any) -> np.ndarray:
    """Return `logits` as float64, shape `(examples, classes)`; raise `ValueError` with `name`."""
    array = np.asarray(logits, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise ValueError(
            f"`{name}` must have shape (examples, classes) with two classes or more. "
            f"Received: shape {array.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(
            f"`{name}` must be finite. Received: NaN or infinity in {len(bad)} of "
            f"{len(array)} rows, the first of them {bad[0]}"
        )
    return array


def _teachers(logits: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if logits is None:
        return None
    checked = checked_logits("teacher_logits", logits)
    if checked.shape != shape:
        raise ValueError(
            f"`teacher_logits` must have the shape of `logits`, {shape}. Received: {checked.shape}"
        )
    return checked.argmax(axis=1)


def _checked_labels(labels: Any, examples: int, classes: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (examples,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"`labels` must be integers of shape ({examples},), one per row of `logits`. "
            f"Received: {array.dtype} of shape {array.shape}"
        )
    if array.min() < 0 or array.max() >= classes:
        raise ValueError(
            f"`labels` must lie in [0, {classes}), the classes of `logits`. "
            f"Received: values from {array.min()} to {array.max()}"
        )
    return array.astype(np.int64)
