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
        names: of the images, for people: their files in the data's folder; or None.
    """

    labels: np.ndarray
    image_shape: tuple[int, int, int]
    images: np.ndarray | None = None
    files: tuple[Path, ...] | None = None
    soft_labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.images is None) == (self.files is None):
            raise ValueError("A `Split` must hold exactly one of `images` and `files`.")
        for name in ("images", "files", "soft_labels", "weights", "names"):
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
            names=None if self.names is None else tuple(self.names[i] for i in chosen),
        )

    def limited(self, count: int | None) -> "Split":
        """Return `count` examples in which the classes have the same shares; None means all.

        The first examples of each class are taken, and at least one of each if `count` allows it.
        """
        return self if count is None or count >= len(self) else self.rows(self._first(count))

    def beyond(self, count: int) -> "Split | None":
        """Return the examples that `limited(count)` leaves out; None if it leaves out none."""
        if count >= len(self):
            return None
        return self.rows(np.setdiff1d(np.arange(len(self)), self._first(count)))

    def _first(self, count: int) -> np.ndarray:
        """Return the rows of the first examples of each class."""
        classes, sizes = np.unique(self.labels, return_counts=True)
        quotas = _shares(sizes, count)
        chosen = [
            np.flatnonzero(self.labels == label)[:quota]
            for label, quota in zip(classes, quotas, strict=True)
        ]
        return np.sort(np.concatenate(chosen))

    def __repr__(self) -> str:
        kept = "files" if self.images is None else "pixels"
        own = [name for name in ("soft_labels", "weights") if getattr(self, name) is not None]
        with_ = f", with {' and '.join(own)}" if own else ""
        return f"<Split of {len(self):,} {size_text(self.image_shape)} images ({kept}){with_}>"


def size_text(shape: tuple[int, ...]) -> str:
    """Return the shape of an image as text: `8x8x1`."""
    return "x".join(map(str, shape))


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Divide `count` in proportion to `sizes`, by largest remainders; at least 1 each if it can."""
    exact = sizes * (count / sizes.sum())
    quotas = np.floor(exact).astype(int)
    if count >= len(sizes):
        quotas = np.maximum(quotas, 1)
    while quotas.sum() > count:
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    for place in np.argsort(-(exact - quotas), kind="stable")[: count - quotas.sum()]:
        quotas[place] += 1
    return quotas


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
            return f"{many} in {self.split} under more than one class: {pair}"
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
        notes: sentences on what is odd about the data.
        rest: training examples that a limit left out (`train_limit`), from which a student may
            still learn without labels; None if there are none.

    A task prints itself in a few lines: the number of images by class and split, and what is odd.
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
    notes: tuple[str, ...] = ()
    rest: Split | None = None

    def __repr__(self) -> str:
        return described(self)

    @property
    def odd(self) -> tuple[str, ...]:
        """Sentences on what is odd about the data: its `repeats` and its `notes`."""
        return (*(repeat.sentence for repeat in self.repeats), *self.notes)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.train.image_shape


CLASSES_SHOWN = 12


def described(task: Task) -> str:
    """Return a task in a few lines: sizes, counts by class and split, and what is odd.

    Example:
        >>> import kd_keras as kd
        >>> print(described(kd.data.load("digits_halves")))
        Task 'digits_halves': 2 classes, images of 8x8x1, chosen by accuracy
                     0 to 4  5 to 9    all
        train           577     572  1,149
        validation      144     144    288
        test            180     180    360
    """
    splits = {"train": task.train, "validation": task.validation, "test": task.test}
    counts = {
        name: np.bincount(split.labels[split.labels != UNKNOWN], minlength=task.classes)
        for name, split in splits.items()
    }
    heads = [*(shown_name(name) for name in task.class_names), "all"]
    if task.classes > CLASSES_SHOWN:
        heads = ["fewest", "most", "all"]  # of a class
        counts = {name: np.array([each.min(), each.max()]) for name, each in counts.items()}
    cells = {
        name: [f"{count:,}" for count in (*counts[name].tolist(), len(split))]
        for name, split in splits.items()
    }
    widths = [
        max(len(head), *(len(row[place]) for row in cells.values()))
        for place, head in enumerate(heads)
    ]
    rows = [("", heads), *cells.items()]
    return "\n".join([
        f"Task {task.name!r}: {task.classes} classes, images of {size_text(task.image_shape)}, "
        f"chosen by {task.metric}",
        *(
            f"{name:<11}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row, widths, strict=True))
            for name, row in rows
        ),
        *(f"odd: {sentence}" for sentence in task.odd),
    ])  # fmt: skip


def shown_name(name: str, longest: int = 16) -> str:
    """Return the name of a class, cut if it is too long for a column."""
    return name if len(name) <= longest else f"{name[: longest - 3]}..."


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
        train=joined(task.train, task.validation),
        validation=task.validation.rows(np.arange(0)),
        fingerprint=f"{task.fingerprint}+validation",
        repeats=tuple(r for r in task.repeats if "validation" not in (r.split, r.other)),
    )


def joined(one: Split, other: Split) -> Split:
    """Return the rows of two splits, one after the other.

    Raises:
        ValueError: if one split holds pixels and the other files.
    """
    parts: dict[str, Any] = {}
    for name in ("labels", "images", "files", "soft_labels", "weights", "names"):
        ours, theirs = getattr(one, name), getattr(other, name)
        if (ours is None) != (theirs is None):
            raise ValueError(f"One of the splits to join has `{name}`, and the other has none.")
        if ours is not None:
            parts[name] = (
                ours + theirs if name in ("files", "names") else np.concatenate([ours, theirs])
            )
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
