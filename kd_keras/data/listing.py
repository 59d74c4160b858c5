"""From a list of pictures, however they are packed, to a task: checked, in order, and split.

Every packing (folders, archives, tables, arrays, sets of other libraries) is read into a `Listing`.
All that follows is here, so that the same pictures, labels and splits become the same task.
"""

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data import images, looking, repeats, splitting
from kd_keras.data.task import Split, Task
from kd_keras.evaluation import metrics
from kd_keras.evaluation.operating import wilson
from kd_keras.utils.checks import lookup
from kd_keras.utils.files import fingerprint

log = logging.getLogger(__name__)

# names of the partitions, in upper or lower case
NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
PARTS = ("train", "validation", "test")
KEPT = 256  # pixels: pictures of one size up to this side are not resized
LARGEST = 224  # pixels: the side that is chosen for larger ones, at most
FEW = 100  # images of a split, below which it can tell little
STEP = 32  # pixels: chosen sides are multiples of this


@dataclasses.dataclass(frozen=True)
class Listing:
    """The examples of a data set, as its packing lists them. Rows may be in any order.

    Attributes:
        name: of the data, for people.
        labels: one class per example, str or int; or distributions, float, `(n, classes)`.
        files: the picture of each example, or None.
        images: uint8, `(n, height, width, channels)`, or None if there are files.
        class_names: the columns of distributions; None takes the classes that occur, sorted.
        parts: `"train"`, `"validation"` or `"test"` by example; None if nothing is split yet.
        weights: float, by example, or None. They count in training alone.
        groups: what must not be cut in two, by example, or None.
        root: the folder in which the files lie, to name them shortly.
        rows: the row of each example in the table that lists it, or None.
        channels: of the images as the models get them, unless the user says otherwise.
        faults: what is wrong with the packing.
        notes: what is odd about it.
    """

    name: str
    labels: np.ndarray
    files: tuple[Path, ...] | None = None
    images: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    parts: np.ndarray | None = None
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    root: Path | None = None
    rows: Sequence[int] | None = None
    channels: int = 3
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options that every packing has.

    Attributes:
        image_size: height and width of the images as the models get them; None chooses: the
            pictures' own size if they share one of at most `KEPT` pixels, and else the median of
            their shorter sides, rounded down to a multiple of `STEP`, at most `LARGEST`.
        channels: 3, or 1 for grey images; None takes those of the data: 3, unless the packing
            says that all pictures are grey.
        metric: the metric that chooses the best epoch: one of `evaluation.metrics.choices()`.
        seed: the seed of the validation cut. A test split that is cut is the same for every seed.
        validation_share, test_share: shares to cut off if there is no such split.
    """

    image_size: int | None = None
    channels: int | None = None
    metric: str = "accuracy"
    seed: int = 0
    validation_share: float = 0.1
    test_share: float = 0.2

    def __post_init__(self) -> None:
        images.whole_size(self.image_size)
        images.proper_share(self.validation_share)
        images.proper_share(self.test_share, "test_share")
        lookup("metric", dict.fromkeys(metrics.choices()), self.metric)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: channels={self.channels!r}")


def part_of(name: str) -> str | None:
    """Return the partition that a name means, or None.

    Example:
        >>> part_of("Val"), part_of("images")
        ('validation', None)
    """
    return next((part for part, names in NAMES.items() if name.lower() in names), None)


def as_task(listing: Listing, options: Options, *, mend: str = "more images") -> Task:
    """Check the examples of a listing, put them in order, split them, and return the task.

    The order is that of the pictures' contents, since every packing has another one.

    Args:
        listing: the examples.
        options: as requested by the user.
        mend: what to add if there are too few examples to cut a split.

    Raises:
        ValueError: if pictures, labels or groups have faults. One error counts them all and lists
            the first ten.
    """
    faults = list(listing.faults)
    seen = None if listing.files is None else looking.look(listing.files)
    if seen is not None:
        faults += looking.faults(seen, rows=listing.rows)
    names, numbers, soft = _classes(listing, faults)
    images.refuse(listing.root or listing.name, faults)
    shape = (*_size(listing, seen, options), options.channels or listing.channels)
    digests = _digests(listing, seen)
    order = np.array(sorted(range(len(listing)), key=lambda row: (digests[row], numbers[row])))
    whole = Split(
        labels=numbers[order],
        image_shape=shape,
        files=None if listing.files is None else tuple(listing.files[row] for row in order),
        images=None if listing.images is None else _pixels(listing.images[order], shape),
        soft_labels=None if soft is None else soft[order],
        weights=None if listing.weights is None else listing.weights[order].astype("float32"),
        names=_names(listing, order),
    )
    groups = None if listing.groups is None else listing.groups[order]
    parts = None if listing.parts is None else listing.parts[order]
    rows, notes = _partition(whole.labels, parts, groups, options, mend)
    splits = {part: whole.rows(rows[part]) for part in PARTS}
    for part in ("validation", "test"):  # weights count in training alone
        splits[part] = dataclasses.replace(splits[part], weights=None)
    content = [[digests[row] for row in order], whole.labels, shape, names]
    decoder = [] if seen is None else looking.as_read(seen, shape[:2])[1:]
    own = [array for array in (whole.soft_labels, whole.weights) if array is not None]
    return Task(
        name=listing.name,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        class_names=names,
        metric=options.metric,
        fingerprint=fingerprint("pictures", *content, [rows[p] for p in PARTS], *decoder, *own),
        repeats=_repeats(splits, listing, seen),
        notes=(*listing.notes, *notes, *_odd(splits, names)),
    )


def _classes(
    listing: Listing, faults: list[str]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray | None]:
    """Return the names of the classes, the class number of each example, and soft labels."""
    labels = listing.labels
    if labels.ndim == 2:
        names = listing.class_names or tuple(map(str, range(labels.shape[1])))
        _need_two(names)
        return names, labels.argmax(axis=1).astype("int32"), labels.astype("float32")
    named = np.array([str(label) for label in labels.tolist()], dtype=object)
    names = listing.class_names or in_order(named)
    _need_two(names)
    images.refuse(
        listing.name,
        [
            f"{images.shown(name)}: the name of a class must be UTF-8; rename it"
            for name in names
            if images.shown(name) != name  # the name is written into results, reports and models
        ],
    )
    numbers = {name: number for number, name in enumerate(names)}
    return names, np.array([numbers.get(name, 0) for name in named], "int32"), None


def in_order(names: Sequence[str] | np.ndarray) -> tuple[str, ...]:
    """Return the different names in order: whole numbers by value, other names by their letters.

    Example:
        >>> in_order(["10", "2", "2"]), in_order(["dog", "cat"])
        (('2', '10'), ('cat', 'dog'))
    """
    different = {str(name) for name in names}
    if different and all(name.isdecimal() for name in different):
        return tuple(sorted(different, key=lambda name: (int(name), name)))
    return tuple(sorted(different))


def _need_two(names: Sequence[str]) -> None:
    if len(names) < 2:
        raise ValueError(
            "The data must have at least two classes. "
            f"Received: {', '.join(map(images.shown, names)) or 'none'}"
        )


def _size(
    listing: Listing, seen: Sequence[looking.Seen] | None, options: Options
) -> tuple[int, int]:
    """Return height and width of the images as the models get them; log a choice."""
    if listing.images is not None:
        height, width = listing.images.shape[1:3]
        sizes = {(height, width): len(listing)}
    else:
        sizes = collections.Counter(file.size for file in seen or () if file.size)
    if options.image_size:
        return options.image_size, options.image_size
    if len(sizes) == 1 and max(next(iter(sizes))) <= KEPT:
        return next(iter(sizes))
    shorter = np.repeat([min(size) for size in sizes], list(sizes.values()))
    side = int(min(LARGEST, max(STEP, np.median(shorter) // STEP * STEP)))
    told = ", ".join(f"{h}x{w}" for h, w in list(sizes)[:3])
    log.info(
        "%s: pictures of %s%s (height x width) are resized to %dx%d; --image-size changes this.",
        listing.name,
        told,
        ", ..." if len(sizes) > 3 else "",
        side,
        side,
    )
    return side, side


def _names(listing: Listing, order: np.ndarray) -> tuple[str, ...] | None:
    """Return the files' paths in the data's folder, in order; None if there are no files."""
    if listing.files is None:
        return None
    root = listing.root
    return tuple(
        images.shown(path.relative_to(root) if root and path.is_relative_to(root) else path)
        for path in (listing.files[row] for row in order)
    )


def _digests(listing: Listing, seen: Sequence[looking.Seen] | None) -> list[str]:
    """Return a digest of each picture's contents: of the bytes of a file, or of the pixels."""
    if seen is not None:
        return [file.digest for file in seen]
    return [
        hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()
        for image in listing.images  # type: ignore[union-attr]
    ]


def _pixels(pixels: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return pictures resized to `shape`, and in its channels, as files of them would be read."""
    if pixels.shape[1:] == shape:
        return pixels
    return np.stack([images.as_shape(image, shape) for image in pixels])


def _partition(
    labels: np.ndarray,
    parts: np.ndarray | None,
    groups: np.ndarray | None,
    options: Options,
    mend: str,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the rows of each split, and what is odd about them; a missing split is cut."""
    everything = np.arange(len(labels))
    given = {} if parts is None else {part: everything[parts == part] for part in PARTS}
    rows = {part: chosen for part, chosen in given.items() if len(chosen)}
    rows.setdefault("train", everything if parts is None else everything[:0])
    if not len(rows["train"]):
        raise ValueError("No example is in the split 'train'.")
    notes = []
    if groups is not None and len(rows) > 1:
        twice = splitting.straddling([groups[chosen] for chosen in rows.values()])
        if twice:
            shown = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
            notes.append(
                f"{len(twice)} groups stand in several of the given splits ({shown}), so that test "
                "is easier than new data. Leave out the split column to have groups kept together."
            )
    for part, share, seed in (
        ("test", options.test_share, 0),
        ("validation", options.validation_share, options.seed),
    ):
        if part not in rows:
            train = rows["train"]
            rest, chosen = splitting.cut(
                labels[train],
                share=share,
                seed=seed,
                what=part,
                mend=f"{mend}, or a split {part!r} of your own",
                groups=None if groups is None else groups[train],
            )
            rows |= {"train": train[rest], part: train[chosen]}
    return rows, notes


def _repeats(
    splits: Mapping[str, Split], listing: Listing, seen: Sequence[looking.Seen] | None
) -> tuple[Any, ...]:
    if seen is not None:
        return repeats.of_files(splits, seen, listing.root)
    shown: dict[str, list[Hashable]] = {
        name: [hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in split.images]
        for name, split in splits.items()
        if split.images is not None
    }
    return repeats.find(splits, shown, lambda split, row: f"{split} image {row}")


def _odd(splits: Mapping[str, Split], names: Sequence[str]) -> list[str]:
    """Return sentences on what is unusual in the counts of the classes."""
    told = []
    counts = {
        part: np.bincount(split.labels, minlength=len(names)) for part, split in splits.items()
    }
    for part, count in counts.items():
        missing = [images.shown(name) for name, n in zip(names, count, strict=True) if not n]
        if missing:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            told.append(f"{part} has no image of {len(missing)} of {len(names)} classes: {shown}.")
    train = counts["train"]
    if train.min() and train.max() >= 10 * train.min():
        most, least = (images.shown(names[int(pick(train))]) for pick in (np.argmax, np.argmin))
        told.append(
            f"train has {train.max():,} images of {most} and {train.min():,} of {least}: consider "
            "--class-weights."
        )
    for part in ("validation", "test"):
        if len(splits[part]) < FEW:
            low, high = wilson(0.5, len(splits[part]))
            told.append(
                f"{part} has {len(splits[part])} images: an accuracy of one half is known to "
                f"±{(high - low) / 2:.2f} only (95 %)."
            )
    return told
