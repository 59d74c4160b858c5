"""Whether a teacher can teach: how good its answers are on labelled images, and if not, why.

A teacher with its classes in another order, or that sees pixels on another scale than it was
trained with, has answers like any other: a student learns them, and nothing fails.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kd_keras import losses
from kd_keras.models.graphs import logits_in

log = logging.getLogger(__name__)

SMALL = 30  # examples, below which no test decides, but the accuracy alone
DOUBT = 0.05  # of the sign test against the commonest class
RANKS = 0.7  # AUC, from which on a teacher of a rare class has something to say
SURE = 1e-3  # of the sign tests that name a cause
PROBED = 64  # images that are answered again with their pixels on other scales
FROM_DISK = 4096  # answers that are read of those on disk
GAIN = 0.1  # in accuracy, that other pixels have to bring
NAMED = 3  # pairs of classes in a sentence

# what may have been done to the pixels, or left undone
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "multiplied by 255": lambda pixels: pixels * 255.0,
    "divided by 255": lambda pixels: pixels / 255.0,
    "divided by 127.5, less 1": lambda pixels: pixels / 127.5 - 1.0,
    "plus 1, multiplied by 127.5": lambda pixels: (pixels + 1.0) * 127.5,
}


@dataclasses.dataclass(frozen=True)
class Teaching:
    """How a teacher answers labelled images.

    Attributes:
        accuracy: its own.
        commonest: the accuracy of always naming the commonest class.
        examples: how many images.
        order: the teacher's number for each class, where its answers fit the labels in this other
            order; None where they fit as they are, or not at all.
        scale: what, done to the pixels, makes it far better; None where nothing that was tried.
        warning: a sentence on what is wrong, and how it is mended; None where nothing is.
    """

    accuracy: float
    commonest: float
    examples: int
    order: tuple[int, ...] | None = None
    scale: str | None = None
    warning: str | None = None

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.4f} on {self.examples:,} images (always naming the "
            f"commonest class: {self.commonest:.4f})"
        )


@dataclasses.dataclass(frozen=True)
class Sample:
    """A few images that a teacher can be asked again about, with other pixels.

    Attributes:
        images: as the teacher has got them, shape `(n, height, width, channels)`.
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
    """Look whether a teacher can teach, and for the likely cause if it cannot.

    It cannot where a one-sided sign test at 0.05 does not find it better than always naming the
    commonest class; of fewer than 30 images, where it is right on no more of them. But where more
    than half of the images are of one class, it may never name another and rank them well all the
    same: with an AUC of 0.7 nothing is said.

    The classes are in another order where an assignment of its classes to the labels', found on
    half of the images, is right on the other half for most images of the classes it moves, and far
    more often than the order as it is (p < 0.001).

    Args:
        logits: the teacher's, shape `(n, classes)`.
        labels: class numbers, shape `(n,)`.
        names: of the classes; their numbers if not given.
        sample: gives some of the images, to find out whether the teacher wants other pixels; called
            where its accuracy leaves room for that.

    Source: Kuhn (1955) for the assignment, as `scipy.optimize.linear_sum_assignment` solves it.

    Example:
        >>> labels = np.arange(90) % 3
        >>> examine(np.eye(3)[labels], labels).warning is None
        True
        >>> print(examine(np.eye(3)[[1, 2, 0]][labels], labels, names="abc").warning)
        The teacher's answers fit the labels in another order of the classes, with an accuracy of \
1.0000 for 0.0000: it says 'b' for 'a', 'c' for 'b', 'a' for 'c'. Give the classes the order that \
it was trained with.
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
    """Log how good a teacher's stored answers are, and warn where it cannot teach.

    Args:
        stored: all rows by tap, as arrays; or a `cache.Stored`, of which some are read.
        images: an array, of one image per row.
        labels: of each image, a class number or a distribution.
        classes: how many there are. Answers that tell other ones apart are not judged.
        model: the teacher, to ask it again with other pixels; None where it is not at hand.
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
    """Rows that are spread over `count`, at most so many."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _better(won: np.ndarray, lost: np.ndarray, found: Teaching) -> bool:
    """Whether the teacher beats the commonest class, by those that only one of them has right."""
    if found.examples < SMALL:
        return found.accuracy > found.commonest
    return _sign_test(won, lost) < DOUBT


def _sign_test(won: np.ndarray, lost: np.ndarray) -> float:
    """The probability of so many wins, were both as good."""
    from scipy.stats import binomtest

    wins, all_ = int(won.sum()), int(won.sum() + lost.sum())
    return 1.0 if not all_ else float(binomtest(wins, all_, alternative="greater").pvalue)


def _ranks(logits: np.ndarray, labels: np.ndarray, found: Teaching) -> bool:
    """Whether it ranks images by class, though it names the commonest class alone."""
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if found.commonest <= 0.5 or len(present) < 2:
        return False
    scores = logits - _log_sum_exp(logits)
    return float(np.mean([roc_auc_score(labels == k, scores[:, k]) for k in present])) >= RANKS


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))


def _order(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """The teacher's number for each class, if its answers fit in an order that moves some."""
    half = np.arange(len(labels)) // 2 % 2 == 0  # not every other: classes may take turns
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
    from scipy.optimize import linear_sum_assignment

    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    confusion = pairs.reshape(classes, classes).astype(float)
    confusion += 0.5 * np.eye(classes)  # a class that nothing speaks for stays where it is
    return linear_sum_assignment(confusion, maximize=True)[1]


def _scale(sample: Sample) -> str | None:
    """What makes the teacher far better, done to the pixels."""
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
        "The teacher's answers fit the labels in another order of the classes, with an accuracy "
        f"of {aligned:.4f} for {found.accuracy:.4f}: it says {', '.join(pairs)}{more}. Give the "
        "classes the order that it was trained with."
    )


def _other_pixels(found: Teaching, scale: str) -> str:
    return (
        f"The teacher is right on {found.accuracy:.4f} of {found.examples:,} images, and on far "
        f"more of them once their pixels are {scale}: it was trained on another scale. Give it "
        "such images, or put a keras.layers.Rescaling in front of it."
    )


def _unknown_cause(found: Teaching) -> str:
    return (
        f"The teacher is right on {found.accuracy:.4f} of {found.examples:,} images, no better "
        f"than always naming the commonest class ({found.commonest:.4f}): there is little to learn "
        "from it. The cause is not known; look at the order of its classes, at the scale of the "
        "pixels, and at its training."
    )
