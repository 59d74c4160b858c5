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
    def confusion(self) -> np.ndarray:
        """Counts by true class (row) and predicted class (column), shape `(classes, classes)`."""
        pairs = np.bincount(self.labels * self.classes + self.predicted, minlength=self.classes**2)
        return pairs.reshape(self.classes, self.classes)

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
    """One class against the rest: examples in blocks by rising score, the same in all resamples.

    Neighbours of one kind, positives or negatives, form a block, since no score between them
    changes the order of a pair; equal scores of both kinds do too. A good model makes few blocks of
    many examples. Negatives below all positives, and positives above all negatives, are left out.

    Attributes:
        number: the class.
        blocks: the number of blocks.
        members: sparse, shape `(2 * blocks, n)`: the positives of every block, then the negatives.
    """

    number: int
    blocks: int
    members: Any

    @classmethod
    def of(cls, predictions: Predictions, k: int) -> "Curve":
        from scipy.sparse import csr_array  # type: ignore[import-untyped]

        scores, is_k = predictions.probabilities[:, k], predictions.labels == k
        order = scores.argsort(kind="stable")
        ranked, positive = scores[order], is_k[order]
        # the examples that any pair in the wrong order, or any tie, is made of
        first = ranked.searchsorted(ranked[positive].min(initial=np.inf))
        last = ranked.searchsorted(ranked[~positive].max(initial=-np.inf), "right")
        order, ranked, positive = (each[first:last] for each in (order, ranked, positive))
        new = np.diff(ranked, prepend=-np.inf) > 0
        score = new.cumsum() - 1  # the number of an example's score
        count = score[-1] + 1 if len(score) else 0
        held = np.zeros((2, count), bool)
        held[positive.astype(int), score] = True
        mixed = held[0] & held[1]
        starts = np.ones(count, bool)
        starts[1:] = (held[:, 1:] != held[:, :-1]).any(axis=0) | mixed[1:]
        block = starts.cumsum() - 1  # by score
        blocks = int(starts.sum())
        rows = block[score] + blocks * ~positive
        shape = (2 * blocks, len(scores))
        return cls(k, blocks, csr_array((np.ones(len(rows)), (rows, order)), shape=shape))

    def sums(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how many positives and negatives each block holds, shape `(blocks, resamples)`."""
        found = self.members @ counts
        return found[: self.blocks], found[self.blocks :]


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


def probabilities(logits: Any) -> np.ndarray:
    """Return the softmax of checked logits, float64, shape `(examples, classes)`.

    Raises:
        ValueError: for another shape, or NaN or infinite logits.

    Example:
        >>> probabilities([[0.0, 0.0]])
        array([[0.5, 0.5]])
    """
    return np.exp(_log_softmax(checked_logits("logits", logits)))


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
