"""Check whether a teacher can teach: its accuracy on labelled images, and the cause if it is low.

A teacher whose classes are in another order, or that sees pixels on another scale than in its
training, still makes predictions: a student learns them, and nothing fails.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kd_keras import losses
from kd_keras.evaluation.metrics import roc_area
from kd_keras.models.graphs import logits_in

log = logging.getLogger(__name__)

SMALL = 30  # examples; with fewer, the accuracy alone decides, without a test
DOUBT = 0.05  # p-value of the sign test against the commonest class
RANKS = 0.7  # AUC from which on a teacher of a rare class can teach
SURE = 1e-3  # p-value of the sign tests that name a cause
PROBED = 64  # images on which the teacher is run again with other pixel scales
FROM_DISK = 4096  # predictions that are read if they are on disk
GAIN = 0.1  # gain in accuracy that another pixel scale must bring
NAMED = 3  # pairs of classes in a message

# changes of scale that may be missing, or applied once too often
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "multiplied by 255": lambda pixels: pixels * 255.0,
    "divided by 255": lambda pixels: pixels / 255.0,
    "divided by 127.5, less 1": lambda pixels: pixels / 127.5 - 1.0,
    "plus 1, multiplied by 127.5": lambda pixels: (pixels + 1.0) * 127.5,
}


@dataclasses.dataclass(frozen=True)
class Teaching:
    """The quality of a teacher on labelled images.

    Attributes:
        accuracy: the teacher's accuracy.
        commonest: the accuracy of always naming the commonest class.
        examples: the number of images.
        order: the teacher's number for each class, if its predictions fit the labels in this other
            order; None if they fit in the given order, or not at all.
        scale: the change of the pixels that makes the teacher far better; None if none was found.
        warning: a sentence on the problem and its remedy; None if there is no problem.
    """

    accuracy: float
    commonest: float
    examples: int
    order: tuple[int, ...] | None = None
    scale: str | None = None
    warning: str | None = None

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.4f} on {self.examples:,} images (always predicting the "
            f"most common class: {self.commonest:.4f})"
        )


@dataclasses.dataclass(frozen=True)
class Sample:
    """A few images on which a teacher can be run again, with other pixels.

    Attributes:
        images: as the teacher gets them, shape `(n, height, width, channels)`.
        labels: class numbers, shape `(n,)`.
        teacher: the model.
    """

    images: np.ndarray
    labels: np.ndarray
    teacher: keras.Model


def examine(
    logits: Any,
    labels: Any,
    *,
    names: Sequence[str] | None = None,
    sample: Callable[[], Sample] | None = None,
) -> Teaching:
    """Check whether a teacher can teach, and find the likely cause if it cannot.

    It cannot if a one-sided sign test at 0.05 does not find it better than always naming the
    commonest class; with fewer than 30 images, if its accuracy is no higher. If more than half of
    the images are of one class, a teacher may name only that class and still rank the images well:
    with an AUC of 0.7 or more there is no warning.

    The classes are in another order if an assignment of its classes to those of the labels, found
    on half of the images, is right on the other half for most images of the classes it moves, and
    far more often than the given order (p < 0.001).

    Args:
        logits: the teacher's, shape `(n, classes)`.
        labels: class numbers, shape `(n,)`.
        names: of the classes; their numbers if not given.
        sample: returns some of the images, to find out whether the teacher needs other pixels;
            called if its accuracy leaves room for a gain.

    Source: Kuhn (1955) for the assignment, as solved by `scipy.optimize.linear_sum_assignment`.

    Example:
        >>> labels = np.arange(90) % 3
        >>> examine(np.eye(3)[labels], labels).warning is None
        True
        >>> print(examine(np.eye(3)[[1, 2, 0]][labels], labels, names="abc").warning)
        The teacher's predictions fit the labels if its classes are in another order, with \
accuracy 1.0000 instead of 0.0000: it predicts 'b' for 'a', 'c' for 'b', 'a' for 'c'. Put the \
classes in the order it was trained with.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    predicted, classes = logits.argmax(axis=1), logits.shape[1]
    right = predicted == labels
    known = np.bincount(labels, minlength=classes)
    found = Teaching(float(right.mean()), float(known.max() / len(labels)), len(labels))
    order = _order(predicted, labels, classes)
    if order is not None:
        called = names if names is not None else [str(k) for k in range(classes)]
        moved = _in_another_order(found, predicted, labels, order, called)
        return dataclasses.replace(found, order=tuple(map(int, order)), warning=moved)
    scale = None
    if sample is not None and found.accuracy <= 1.0 - GAIN:
        scale = _scale(sample())
    if scale is not None:
        return dataclasses.replace(found, scale=scale, warning=_other_pixels(found, scale))
    common = labels == known.argmax()
    if _better(right & ~common, ~right & common, found) or _ranks(logits, labels, found):
        return found
    return dataclasses.replace(found, warning=_unknown_cause(found))


def log_stored(
    stored: Any, images: Any, labels: np.ndarray, classes: int, model: keras.Model | None
) -> None:
    """Log the accuracy of a teacher's stored predictions, and warn if it cannot teach.

    Args:
        stored: all rows by tap, as arrays; or a `cache.Stored`, of which some rows are read.
        images: an array, one image per row.
        labels: a class number or a distribution per image.
        classes: the number of classes. Predictions of another number are not evaluated.
        model: the teacher, to run it again with other pixels; None if it is not available.
    """
    if not losses.are_class_numbers(labels, np.empty((1, classes))):
        labels = labels.argmax(axis=-1)
    labels = labels.reshape(-1).astype(int)
    if not isinstance(stored, Mapping):
        some = _evenly(len(labels), FROM_DISK)
        stored, labels = stored.gather(some), labels[some]
        images = np.asarray(images)[some]
    logits = stored.get("logits")
    if logits is None or logits.shape[-1] != classes:
        return

    def sample():
        few = _evenly(len(labels), PROBED)
        return Sample(np.asarray(images)[few], labels[few], model)

    found = examine(np.asarray(logits), labels, sample=None if model is None else sample)
    log.info("The teacher on the training images: %s", found)
    if found.warning:
        log.warning("%s", found.warning)


def _evenly(count: int, most: int) -> np.ndarray:
    """Return at most `most` row numbers, spread evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _better(won: np.ndarray, lost: np.ndarray, found: Teaching) -> bool:
    """Return whether the teacher beats always naming the commonest class, by the images that only
    one of the two has right."""
    if found.examples < SMALL:
        return found.accuracy > found.commonest
    return _sign_test(won, lost) < DOUBT


def _sign_test(won: np.ndarray, lost: np.ndarray) -> float:
    """Return the probability of at least this many wins if both were equally good."""
    from scipy.special import bdtrc  # scipy.stats takes most of a second to import

    wins, all_ = int(won.sum()), int(won.sum() + lost.sum())
    return float(bdtrc(wins - 1, all_, 0.5)) if wins else 1.0


def _ranks(logits: np.ndarray, labels: np.ndarray, found: Teaching) -> bool:
    """Return whether the teacher ranks images by class, even if it names only the commonest."""
    present = np.unique(labels)
    if found.commonest <= 0.5 or len(present) < 2:
        return False
    scores = logits - _log_sum_exp(logits)
    return float(np.mean([roc_area(labels == k, scores[:, k]) for k in present])) >= RANKS


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def _order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Return the teacher's number for each class, if its predictions fit in another order."""
    half = np.arange(len(labels)) // 2 % 2 == 0  # not every second image: classes may alternate
    order = _assigned(predicted[half], labels[half], classes)
    theirs, ours = predicted[~half], labels[~half]
    moved = order[ours] != ours
    fits = moved & (theirs == order[ours])
    if not moved.any() or fits.sum() <= 0.5 * moved.sum():
        return None
    if _sign_test(fits, moved & (theirs == ours)) >= SURE:
        return None
    return _assigned(predicted, labels, classes)


def _assigned(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    confusion = pairs.reshape(classes, classes).astype(float)
    confusion += 0.5 * np.eye(classes)  # a class without evidence keeps its number
    given = np.arange(classes)
    if (confusion.argmax(axis=1) == given).all():  # no other assignment is as good
        return given
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(confusion, maximize=True)[1]


def _scale(sample: Sample) -> str | None:
    """Return the name of the pixel scaling that makes the teacher far better, or None."""
    pixels = np.asarray(sample.images[:PROBED], "float32")
    labels = sample.labels[: len(pixels)]

    def right(given):
        logits = logits_in(sample.teacher(given, training=False), sample.teacher)
        return np.asarray(logits).argmax(axis=1) == labels

    as_given = right(pixels)
    found = {name: right(change(pixels)) for name, change in SCALES.items()}
    name = max(found, key=lambda name: found[name].sum())
    gained, lost = found[name] & ~as_given, as_given & ~found[name]
    clear = gained.sum() - lost.sum() >= GAIN * len(labels)
    return name if clear and _sign_test(gained, lost) < SURE else None


def _in_another_order(found: Teaching, predicted, labels, order, names: Sequence[str]) -> str:
    aligned = float((predicted == order[labels]).mean())
    moved = [k for k in range(len(order)) if order[k] != k]
    pairs = [f"{names[order[k]]!r} for {names[k]!r}" for k in moved[:NAMED]]
    more = f" and so on, {len(moved)} in all" if len(moved) > NAMED else ""
    return (
        "The teacher's predictions fit the labels if its classes are in another order, with "
        f"accuracy {aligned:.4f} instead of {found.accuracy:.4f}: it predicts "
        f"{', '.join(pairs)}{more}. Put the classes in the order it was trained with."
    )


def _other_pixels(found: Teaching, scale: str) -> str:
    return (
        f"The teacher's accuracy is {found.accuracy:.4f} on {found.examples:,} images, and much "
        f"higher once their pixels are {scale}: it was trained on another scale. Pass it such "
        "images, or put a keras.layers.Rescaling in front of it."
    )


def _unknown_cause(found: Teaching) -> str:
    return (
        f"The teacher's accuracy is {found.accuracy:.4f} on {found.examples:,} images, no better "
        f"than always predicting the most common class ({found.commonest:.4f}): there is little "
        "to learn from it. The cause is unknown: check the order of its classes, the scale of the "
        "pixels, and its training."
    )
