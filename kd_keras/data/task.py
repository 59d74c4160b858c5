"""Data sets as the rest of the library sees them: a `Task` of three `Split`s."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

UNKNOWN = -1  # the class of an unlabelled example


@dataclasses.dataclass(frozen=True)
class Split:
    """The examples of one partition. An example's index is its row here.

    Attributes:
        labels: int32, shape `(n,)`, class numbers; all of them `UNKNOWN` if the examples are not
            labelled.
        image_shape: `(height, width, channels)` of every image, as the models get it.
        images: uint8, shape `(n, height, width, channels)`, or None if the pixels are read from
            `files`.
        files: n paths of image files that `reading.read` accepts, decoded and resized to
            `image_shape` in the input pipeline, or None.
        soft_labels: float32, shape `(n, classes)`, rows that sum to one, or None.
        weights: float32, shape `(n,)`, the examples' weights in training, or None.
    """

    labels: np.ndarray
    image_shape: tuple[int, int, int]
    images: np.ndarray | None = None
    files: tuple[Path, ...] | None = None
    soft_labels: np.ndarray | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.images is None) == (self.files is None):
            raise ValueError("A `Split` must hold exactly one of `images` and `files`.")
        for name in ("images", "files", "soft_labels", "weights"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.labels):
                raise ValueError(
                    f"`{name}` has {len(value)} rows, but `labels` has {len(self.labels)}."
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labelled(self) -> bool:
        """True if the classes of the examples are known."""
        return bool((self.labels != UNKNOWN).all())

    def rows(self, chosen: np.ndarray) -> "Split":
        """Return the split of the chosen rows (integers), in that order."""
        return dataclasses.replace(
            self,
            labels=self.labels[chosen],
            images=None if self.images is None else self.images[chosen],
            files=None if self.files is None else tuple(self.files[i] for i in chosen),
            soft_labels=None if self.soft_labels is None else self.soft_labels[chosen],
            weights=None if self.weights is None else self.weights[chosen],
        )

    def limited(self, count: int | None) -> "Split":
        """Return at most `count` examples, the classes as balanced as possible; None means all."""
        if count is None or count >= len(self):
            return self
        rank = np.empty(len(self), dtype=int)
        for label in np.unique(self.labels):
            of_class = np.flatnonzero(self.labels == label)
            rank[of_class] = np.arange(len(of_class))
        return self.rows(np.sort(np.lexsort((self.labels, rank))[:count]))


@dataclasses.dataclass(frozen=True)
class Repeat:
    """Pictures of one split that are in another one too, or in the same one under another class.

    Attributes:
        split, other: names of the splits; `other` comes first in train, validation, test.
        count: the number of such examples of `split`.
        other_class: the number of them that have another class in `other`.
        first, same_as: the first such example of `split`, and the same picture in `other`.

    Example:
        >>> print(Repeat("test", "train", 2, 1, "test/cat/1.png", "train/dog/7.png").sentence)
        2 test images are in train too, 1 under another class: test/cat/1.png is train/dog/7.png.
    """

    split: str
    other: str
    count: int
    other_class: int
    first: str
    same_as: str

    @property
    def sentence(self) -> str:
        """The repeat as one sentence for a person."""
        many = f"{self.count:,} {self.split} image{'s are' if self.count > 1 else ' is'}"
        pair = f"{self.first} is {self.same_as}."
        if self.split == self.other:
            return f"{many} in {self.split} again under another class: {pair}"
        classes = f", {self.other_class:,} under another class" if self.other_class else ""
        return f"{many} in {self.other} too{classes}: {pair}"


@dataclasses.dataclass(frozen=True)
class Task:
    """A classification problem: the data to train on, to choose by and to evaluate on.

    Attributes:
        name: `"digits"`, `"mnist"`, ...
        train, validation, test: the splits. Validation is cut from the training data by the
            seed, stratified, unless the data have their own; test is used once, at the end.
        class_names: one name per class, in the order of the class numbers.
        metric: the metric that chooses the best epoch: one of `evaluation.metrics.choices()`.
        fingerprint: changes when the data, its order or its partition does.
        class_weight: weights by class number for an imbalanced task, or None.
        repeats: pictures that are in several splits, or under several classes, in all the data
            that were loaded.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    metric: str
    fingerprint: str
    class_weight: dict[int, float] | None = None
    repeats: tuple[Repeat, ...] = ()

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.train.image_shape


def cut_validation(
    split: Split, *, share: float, seed: int, mend: str = "more images"
) -> tuple[Split, Split]:
    """Split off `share` of the examples for validation, by the seed, stratified by label.

    Raises:
        ValueError: if there are too few examples; `mend` says what the user can add.
    """
    from sklearn.model_selection import train_test_split

    try:
        train, validation = train_test_split(
            np.arange(len(split)), test_size=share, random_state=seed, stratify=split.labels
        )
    except ValueError as error:
        raise ValueError(
            f"A stratified validation_share={share} cannot be cut from {len(split)} training "
            f"images ({error}). Give {mend}; in Python, a larger `validation_share` also helps."
        ) from error
    return split.rows(np.sort(train)), split.rows(np.sort(validation))


def without_validation(task: Task) -> Task:
    """Return the task with its validation examples in the training split, and none in validation.

    Raises:
        ValueError: if one split holds pixels and the other files.

    Example:
        >>> import kd_keras as kd
        >>> whole = without_validation(kd.data.load("digits"))
        >>> len(whole.train), len(whole.validation), len(whole.test)
        (1437, 0, 360)
    """
    return dataclasses.replace(
        task,
        train=_joined(task.train, task.validation),
        validation=task.validation.rows(np.arange(0)),
        fingerprint=f"{task.fingerprint}+validation",
        repeats=tuple(r for r in task.repeats if "validation" not in (r.split, r.other)),
    )


def _joined(one: Split, other: Split) -> Split:
    """Return the rows of two splits, one after the other."""
    parts: dict[str, Any] = {}
    for name in ("labels", "images", "files", "soft_labels", "weights"):
        ours, theirs = getattr(one, name), getattr(other, name)
        if (ours is None) != (theirs is None):
            raise ValueError(f"One of the splits to join has `{name}`, and the other has none.")
        if ours is not None:
            parts[name] = ours + theirs if name == "files" else np.concatenate([ours, theirs])
    return dataclasses.replace(one, **parts)


def unlabelled(
    image_shape: tuple[int, int, int],
    *,
    images: np.ndarray | None = None,
    files: tuple[Path, ...] | None = None,
) -> Split:
    """Return a split of images or files, as in `Split`, whose classes are unknown: a transfer set.

    Example:
        >>> split = unlabelled((8, 8, 1), images=np.zeros((3, 8, 8, 1), "uint8"))
        >>> len(split), split.labelled
        (3, False)
    """
    known = np.full(len(images if images is not None else files or ()), UNKNOWN, "int32")
    return Split(known, image_shape, images=images, files=files)


def balanced_class_weight(labels: np.ndarray, classes: int) -> dict[int, float]:
    """Return weights inversely proportional to the class counts, with mean 1 over the examples."""
    counts = np.bincount(labels, minlength=classes)
    return {k: len(labels) / (classes * int(n)) for k, n in enumerate(counts) if n}
