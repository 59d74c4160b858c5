"""A classifier's answers to labelled examples, checked: what the metrics are made from."""

import dataclasses
import functools
from typing import Any

import numpy as np

BINS = 15


@dataclasses.dataclass(frozen=True)
class Answers:
    """Checked answers to n examples, in float64."""

    labels: np.ndarray  # (n,) int64
    log_probabilities: np.ndarray  # (n, classes)

    @classmethod
    def of(cls, logits: Any, labels: Any) -> "Answers":
        logits = checked_logits("logits", logits)
        return cls(_checked_labels(labels, *logits.shape), _log_softmax(logits))

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
        """The classes whose AUC counts: class 1 of two, else those in `labels`."""
        return np.array([1]) if self.classes == 2 else np.unique(self.labels)


@dataclasses.dataclass(frozen=True)
class Choices:
    """The classes chosen for n examples: all that accuracy and balanced accuracy need."""

    labels: np.ndarray  # (n,) int64
    predicted: np.ndarray  # (n,) int64
    classes: int

    @classmethod
    def of(cls, name: str, predicted: Any, labels: Any) -> "Choices":
        predicted = np.asarray(predicted)
        if predicted.ndim != 1 or not np.issubdtype(predicted.dtype, np.integer):
            raise ValueError(
                f"`{name}` must hold logits of shape (examples, classes), or the numbers of the "
                f"chosen classes, integers of shape (examples,). Received: {predicted.dtype} of "
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
    """`logits` as float64 of shape `(examples, classes)`, or a `ValueError` that names them."""
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
