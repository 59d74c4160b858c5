"""Find image files in folders, and decode them when needed; `looking` checks them first."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data import reading
from kd_keras.data.reading import SUFFIXES as SUFFIXES
from kd_keras.data.task import Split
from kd_keras.runtime.machine import available_memory
from kd_keras.utils.checks import positive_int

FAULTS_SHOWN = 10

ImageShape = tuple[int, int, int]


def refuse(where: object, faults: Sequence[str]) -> None:
    """Raise one `ValueError` that counts the faults and lists the first ten, if there are any."""
    if not faults:
        return
    where = shown(where) if isinstance(where, Path) else where
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in {where}"
    lines = [count, *faults[:FAULTS_SHOWN]]
    if len(faults) > FAULTS_SHOWN:
        lines.append(f"... and {len(faults) - FAULTS_SHOWN} more")
    raise ValueError("\n  ".join(lines))


def entries(folder: Path) -> list[Path]:
    """Return the sorted contents of a folder, without hidden files and what macOS adds."""
    return sorted(
        path for path in folder.iterdir() if path.name[0] != "." and path.name != "__MACOSX"
    )


def all_below(folder: Path) -> Iterator[Path]:
    """Yield the contents of a folder at any depth, with the same exceptions as `entries`.

    A folder that may not be read raises `PermissionError`; `Path.rglob` would ignore it.
    """
    for path in entries(folder):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from all_below(path)


def shown(path: Path | str) -> str:
    """Return a path as it can be printed and written: bytes that are not UTF-8 become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def whole_size(image_size: int | None) -> int | None:
    """Return `image_size` if it is None or a positive integer."""
    return None if image_size is None else positive_int("image_size", image_size)


def proper_share(share: float, name: str = "validation_share") -> float:
    """Return `share` if it leaves something on both sides of the cut."""
    if isinstance(share, float) and 0 < share < 1:
        return share
    raise ValueError(f"`{name}` must lie above 0 and below 1. Received: {name}={share!r}")


def as_shape(pixels: np.ndarray, image_shape: ImageShape) -> np.ndarray:
    """Return the pixels of one picture as if they were read from a file for this shape.

    Args:
        pixels: uint8, of one channel or three.
        image_shape: `(height, width, channels)`.
    """
    image = reading.resized(pixels, image_shape[:2])
    if image.shape[2] < image_shape[2]:
        return np.repeat(image, image_shape[2], axis=2)
    if image.shape[2] > image_shape[2]:
        import tensorflow as tf

        with tf.device("/CPU:0"):
            return tf.image.rgb_to_grayscale(image).numpy()
    return image


def decode(path: Any, image_shape: ImageShape) -> Any:
    """Read one image inside a TensorFlow graph, as in `Dataset.map`, or a batch of images.

    A batch costs less than its images one by one: TensorFlow's call of Python takes a fifth of a
    millisecond. The files of a batch are read in threads, as many as there are cores.

    Args:
        path: a string tensor, one of `paths` or, in a batch, a vector of them: files that
            `reading.read` accepts.
        image_shape: `(height, width, channels)`, with one channel or three. An image of
            another size is resized, as `reading.read` does it.

    Returns:
        uint8, of the static shape `image_shape`, or in a batch `(n, *image_shape)`. A file that
        cannot be read stops the graph with TensorFlow's error, which contains our message and the
        file's name.
    """
    import tensorflow as tf

    # a dataset whose functions are stateless can be optimised and distributed
    path = tf.convert_to_tensor(path, tf.string)
    # not a function defined here: TensorFlow would rewrite it, and all that it calls
    read = functools.partial(_pixels, image_shape)
    image = tf.numpy_function(read, [path], tf.uint8, stateful=False)
    return _in_channels(tf.ensure_shape(image, (*path.shape, *image_shape[:2], 3)), image_shape)


def _pixels(image_shape: ImageShape, path: Any) -> np.ndarray:
    """Return the pixels of a file, or of a vector of files, in three channels."""
    paths = np.asarray(path, object)  # of bytes, which come alone for a single file
    pixels = np.empty((paths.size, *image_shape[:2], 3), np.uint8)

    def fill(row: int) -> None:
        name = os.fsdecode(paths.flat[row])
        try:
            pixels[row] = reading.read(name, shape=image_shape[:2]).pixels
        except reading.Unreadable as error:
            raise ValueError(f"{shown(name)}: {error}") from error

    if paths.size == 1:
        fill(0)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(fill, range(paths.size)):
                pass
    return pixels.reshape(*paths.shape, *pixels.shape[1:])


def _in_channels(image: Any, image_shape: ImageShape) -> Any:
    """Return pictures of three channels in as many as their shape has: three, or one if grey."""
    import tensorflow as tf

    return tf.image.rgb_to_grayscale(image) if image_shape[2] == 1 else image


def paths(files: Sequence[Path]) -> Any:
    """Return paths, of any bytes, as a string tensor on the CPU, where the input pipeline runs."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        return tf.constant([os.fsencode(file) for file in files], tf.string)


def read_all(files: Sequence[Path], image_shape: ImageShape) -> np.ndarray:
    """Decode all files in parallel, to the same pixels as `decode`.

    Returns:
        uint8, shape `(len(files), height, width, channels)`, in the order of `files`.

    Raises:
        ValueError: if some files cannot be read; the message counts them and lists the first ten.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((*image_shape[:2], 3), tf.uint8)])
    def grey(image):
        return _in_channels(image, image_shape)

    images = np.empty((len(files), *image_shape), np.uint8)

    def fill(row: int) -> str | None:
        try:
            pixels = reading.read(files[row], shape=image_shape[:2]).pixels
        except reading.Unreadable as error:
            return f"{shown(files[row])}: {error}"
        if image_shape[2] == 1:
            with tf.device("/CPU:0"):
                pixels = grey(pixels).numpy()
        images[row] = pixels
        return None

    with ThreadPoolExecutor() as pool:
        refuse("the image files", [fault for fault in pool.map(fill, range(len(files))) if fault])
    return images


def pixels_of(split: Split) -> np.ndarray:
    """Return the pixels of a split, read from its files if they are not in memory.

    Raises:
        ValueError: if files cannot be read.
    """
    if split.images is not None:
        return split.images
    return read_all(split.files or (), split.image_shape)


def in_memory(split: Split, *, share: float = 0.25) -> Split:
    """Load a split's pixels into memory, if they take less than `share` of the free memory.

    A larger split, or one that already holds its images, is returned unchanged.
    """
    if split.files is None:
        return split
    if len(split) * int(np.prod(split.image_shape)) >= share * available_memory():
        return split
    pixels = read_all(split.files, split.image_shape)
    return dataclasses.replace(split, images=pixels, files=None)
