"""Load a task from arrays."""

from typing import Any

import numpy as np

from kd_keras.data.listing import Listing, Options, as_task, part_of
from kd_keras.data.task import Task
from kd_keras.utils.checks import unknown


def from_arrays(
    images: Any,
    labels: Any,
    *,
    split: Any = None,
    weight: Any = None,
    group: Any = None,
    class_names: tuple[str, ...] | None = None,
    name: str = "arrays",
    **options,
) -> Task:
    """Load the task of images in memory.

    Args:
        images: uint8, `(n, height, width, channels)` or, if grey, `(n, height, width)`: raw pixels
            from 0 to 255.
        labels: a class name or number per image; or distributions, float, `(n, classes)`.
        split: `"train"`, `"validation"` or `"test"` by image; validation and test are cut from
            train if they are missing.
        weight: the weights in training, by image.
        group: what must not be cut in two, by image, such as the patient.
        class_names: the classes in order, or the columns of distributions; by default those that
            occur, sorted.
        name: of the data, for people.
        **options: `image_size`, `channels`, `metric`, `seed`, `validation_share`, `test_share`, as
            in `listing.Options`.

    Raises:
        ValueError: for arrays of different lengths, images that are not uint8, and labels that name
            no class.

    Example:
        >>> x = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), "uint8")
        >>> task = from_arrays(x, np.arange(60) % 3, validation_share=0.2)
        >>> len(task.train), len(task.validation), len(task.test), task.image_shape
        (38, 10, 12, (8, 8, 1))
    """
    pixels = _pixels(images)
    known = np.asarray(labels)
    if known.ndim == 2 and known.shape[1] == 1:
        known = known[:, 0]
    if known.ndim not in (1, 2) or (known.ndim == 2 and known.dtype.kind not in "fiu"):
        raise ValueError(
            "`labels` must hold a class per image, or a distribution over the classes. "
            f"Received: shape {known.shape}, {known.dtype}"
        )
    others = {"labels": known, "split": split, "weight": weight, "group": group}
    for argument, values in others.items():
        if values is not None and len(values) != len(pixels):
            raise ValueError(
                f"`{argument}` must have one entry per image. Received: {len(values)} for "
                f"{len(pixels)} images"
            )
    listing = Listing(
        name=name,
        labels=_distributions(known) if known.ndim == 2 else _names(known, class_names),
        images=pixels,
        class_names=None if class_names is None else tuple(map(str, class_names)),
        parts=None if split is None else _parts(split),
        weights=None if weight is None else _weights(weight),
        groups=None if group is None else np.array([str(each) for each in group], object),
        channels=pixels.shape[3],
    )
    return as_task(listing, Options(**options))


def _pixels(images: Any) -> np.ndarray:
    pixels = np.asarray(images)
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise ValueError(
            "`images` must be raw pixels, uint8 from 0 to 255, of shape (n, height, width, 1 or "
            f"3). Received: {pixels.dtype}, shape {pixels.shape}"
        )
    if not len(pixels):
        raise ValueError("`images` must hold images. Received: none")
    return pixels


def _names(labels: np.ndarray, class_names: tuple[str, ...] | None) -> np.ndarray:
    """Return the class of each image by name; numbers name the classes in their order."""
    if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
        raise ValueError("`labels` must be class names or whole numbers. Received: fractions")
    named = [str(int(label)) if labels.dtype.kind in "fiub" else str(label) for label in labels]
    if class_names is None:
        return np.array(named, object)
    known = tuple(map(str, class_names))
    if labels.dtype.kind in "fiub":
        outside = (labels < 0) | (labels >= len(known))
        if outside.any():
            raise ValueError(
                f"`labels` must be from 0 to {len(known) - 1}, the numbers of `class_names`. "
                f"Received: {labels[outside][0]} at position {int(outside.argmax())}"
            )
        return np.array([known[int(label)] for label in labels], object)
    strange = next((label for label in named if label not in known), None)
    if strange is not None:
        raise ValueError(unknown("class in `labels`:", strange, known))
    return np.array(named, object)


def _distributions(labels: np.ndarray) -> np.ndarray:
    shares = labels.astype("float64")
    sums = shares.sum(axis=1)
    bad = ~(np.isfinite(shares).all(axis=1) & (shares >= 0).all(axis=1) & (sums > 0))
    if bad.any():
        raise ValueError(
            "`labels` must hold finite shares of the classes, none negative and not all 0. "
            f"Received: {shares[bad][0].tolist()} at position {int(bad.argmax())}"
        )
    return shares / sums[:, None]


def _parts(split: Any) -> np.ndarray:
    parts = [part_of(str(name)) for name in split]
    strange = next((str(n) for n, part in zip(split, parts, strict=True) if part is None), None)
    if strange is not None:
        raise ValueError(unknown("split in `split`:", strange, ("train", "validation", "test")))
    return np.array(parts)


def _weights(weight: Any) -> np.ndarray:
    weights = np.asarray(weight, "float64")
    if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("`weight` must hold one finite number per image, none negative.")
    return weights
