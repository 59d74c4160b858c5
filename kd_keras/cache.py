"""The teacher's answers, computed once: an image's answer never changes.

Rows live in memory for as long as the source they came from, under a key made of content: the
teacher's weights and taps, and the images.
"""

import logging
import math
import weakref

import keras
import numpy as np
import tensorflow as tf

from kd_keras.files import fingerprint
from kd_keras.machine import available_memory
from kd_keras.teachers import CachedTeacher, TeacherSource

log = logging.getLogger(__name__)

MODES = ("auto", "off")
MEMORY_SHARE = 0.25

_memory: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def rows(source: TeacherSource, images, batch_size: int = 256) -> dict[str, np.ndarray]:
    """The source's views of all images, computed at most once a source and set of images.

    Args:
        source: a teacher source.
        images: array or nested arrays, shape `(n, ...)`.
        batch_size: images a forward pass.

    Returns:
        dict from tap to float32 array, shape `(n, ...)`.
    """
    if isinstance(source, CachedTeacher):
        return source.rows(images, batch_size)
    stored = _memory.setdefault(getattr(source, "model", source), {})
    place = fingerprint(list(source.shapes), *[np.asarray(x) for x in keras.tree.flatten(images)])
    version = source.fingerprint()
    known, views = stored.get(place, (None, None))
    if known != version:  # never asked, or the teacher has learned since
        views = source.rows(images, batch_size)
        stored[place] = version, views
    return views


def fits(source: TeacherSource, count: int) -> bool:
    """Whether the views of `count` images stay below a quarter of the free memory."""
    if any(None in shape[1:] for shape in source.shapes.values()):
        log.warning("A tap of the teacher has no fixed shape: the teacher runs at every step.")
        return False
    size = count * sum(_row_bytes(shape) for shape in source.shapes.values())
    room = MEMORY_SHARE * available_memory()
    if size > room:
        log.warning(
            "The teacher's views of %d images take %.1f GB, more than the %.1f GB set aside: "
            "the teacher runs at every step.",
            count,
            size / 1e9,
            room / 1e9,
        )
    return size <= room


def _row_bytes(shape: tuple[int | None, ...]) -> int:
    return 4 * math.prod(side for side in shape[1:] if side is not None)


def attach(dataset: tf.data.Dataset, views: dict[str, np.ndarray]) -> tf.data.Dataset:
    """Join stored views to a pipeline's batches, by index.

    Args:
        dataset: yields `({"image": ..., "index": ...}, ...)` in batches.
        views: dict from tap to array; row k belongs to index k.

    Returns:
        The dataset with the rows under `"teacher"`, which a `Distiller` uses instead of its
        teacher.
    """
    tensors = {tap: tf.constant(values) for tap, values in views.items()}

    def join(batch, *rest):
        stored = {tap: tf.gather(values, batch["index"]) for tap, values in tensors.items()}
        return ({**batch, "teacher": stored}, *rest)

    return dataset.map(join, num_parallel_calls=tf.data.AUTOTUNE)
