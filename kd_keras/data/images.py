"""Image files: checked before the work begins, decoded when they are needed."""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data.task import Split
from kd_keras.machine import available_memory

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
FORMATS = ("PNG", "JPEG", "BMP", "GIF")
FAULTS_SHOWN = 10

ImageShape = tuple[int, int, int]


def refuse(where: object, faults: Sequence[str]) -> None:
    """Raise one `ValueError` that counts the faults and lists the first ten; no fault, no error."""
    if not faults:
        return
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in {where}"
    lines = [count, *faults[:FAULTS_SHOWN]]
    if len(faults) > FAULTS_SHOWN:
        lines.append(f"... and {len(faults) - FAULTS_SHOWN} more")
    raise ValueError("\n  ".join(lines))


def check_files(
    rows: Iterable[tuple[int | None, Path]], *, shape: tuple[int, int] | None = None
) -> list[str]:
    """Decode every file once and say what is wrong with it.

    Args:
        rows: `(row, path)` pairs; the row is where the list of files names the file, or None.
        shape: the `(height, width)` that every image must have, or None.

    Returns:
        One sentence a fault, with row and file, in the order of `rows`: the file is missing, is
        no PNG, JPEG, BMP or GIF, is damaged or cut short, or has another size.
    """
    rows = list(rows)
    with ThreadPoolExecutor() as pool:  # Pillow lets go of the interpreter while it decodes
        found = list(pool.map(lambda row: _fault(row[1], shape), rows))
    return [
        f"{'' if row is None else f'row {row}: '}{path}: {fault}"
        for (row, path), fault in zip(rows, found, strict=True)
        if fault
    ]


def _fault(path: Path, shape: tuple[int, int] | None) -> str | None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as image:
            size, mode, kind = image.size[::-1], image.mode, image.format
            image.verify()  # every chunk of a PNG, up to the last, as TensorFlow wants it
        with Image.open(path, formats=FORMATS) as image:
            image.draft(None, (1, 1))  # a JPEG is read to its end, at an eighth of the cost
            image.load()
    except FileNotFoundError:
        return "the file is missing"
    except UnidentifiedImageError:
        return f"not an image of a known kind ({', '.join(FORMATS)})"
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        return f"the image cannot be read ({error})"
    if kind == "BMP" and mode in ("1", "P"):
        return "a BMP with a palette, which TensorFlow does not decode; save it as PNG"
    if shape is not None and size != tuple(shape):
        return f"the image is {size[0]}x{size[1]}, expected {shape[0]}x{shape[1]} (height x width)"
    return None


def sizes(files: Sequence[Path]) -> list[tuple[int, int] | None]:
    """`(height, width)` of every file, from its header; None where it cannot be read."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_size, files))


def _size(path: Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.height, image.width
    except Exception:  # `check_files` says what is wrong with it
        return None


def digests(files: Sequence[Path]) -> list[str]:
    """SHA-256 of every file's bytes, in hexadecimal."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor() as pool:
        return list(pool.map(digest, files))


def whole_size(image_size: int | None) -> int | None:
    """`image_size`, if it is None or a positive whole number."""
    if image_size is None or (type(image_size) is int and image_size > 0):
        return image_size
    raise ValueError(
        f"`image_size` must be a positive whole number. Received: image_size={image_size!r}"
    )


def proper_share(validation_share: float) -> float:
    """`validation_share`, if it leaves something on both sides of the cut."""
    if isinstance(validation_share, float) and 0 < validation_share < 1:
        return validation_share
    raise ValueError(
        "`validation_share` must lie above 0 and below 1. "
        f"Received: validation_share={validation_share!r}"
    )


def decode(path: Any, image_shape: ImageShape) -> Any:
    """Read one image inside a TensorFlow graph, as in `Dataset.map`.

    Args:
        path: a scalar string tensor: a PNG, JPEG or BMP file, or a GIF, of which the first
            frame is read.
        image_shape: `(height, width, channels)`, with one channel or three. An image of
            another size is resized (bilinear, with antialiasing); transparency is dropped.

    Returns:
        uint8, of the static shape `image_shape`.
    """
    import tensorflow as tf

    height, width, channels = image_shape
    # Three channels at first: for one, TensorFlow decodes neither BMP, GIF nor CMYK.
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    image = tf.ensure_shape(image, [None, None, 3])
    if channels == 1:
        image = tf.image.rgb_to_grayscale(image)

    def resized() -> Any:
        pixels = tf.image.resize(image, [height, width], method="bilinear", antialias=True)
        return tf.saturate_cast(tf.round(pixels), tf.uint8)

    fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], [height, width]))
    return tf.ensure_shape(tf.cond(fits, lambda: image, resized), image_shape)


def read_all(files: Sequence[Path], image_shape: ImageShape) -> np.ndarray:
    """Decode all files, in parallel.

    Returns:
        uint8, shape `(len(files), height, width, channels)`, in the order of `files`.

    Raises:
        ValueError: some files cannot be read; the message counts them and lists the first ten.
    """
    import tensorflow as tf

    paths = tf.constant([os.fspath(file) for file in files], tf.string)
    data = tf.data.Dataset.from_tensor_slices(paths).map(
        lambda path: decode(path, image_shape),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    images = np.empty((len(files), *image_shape), np.uint8)
    try:
        for row, image in enumerate(data.as_numpy_iterator()):
            images[row] = image
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
        # TensorFlow does not say which file it was.
        refuse("the image files", check_files((None, file) for file in files))
        raise
    return images


def in_memory(split: Split, *, share: float = 0.25) -> Split:
    """The split with its pixels in memory, if they take less than `share` of the free memory.

    A larger split, and one that holds its images already, is returned as it is.
    """
    if split.files is None:
        return split
    if len(split) * int(np.prod(split.image_shape)) >= share * available_memory():
        return split
    pixels = read_all(split.files, split.image_shape)
    return dataclasses.replace(split, images=pixels, files=None)
