"""Asking the teacher again about a few images: before its answers are stored, and before rows that
were stored earlier are used.

A teacher may draw random numbers, or look at the other images of a batch: its answers are then none
of an image alone, and must not be stored. The key of stored rows holds weights and settings, and
cannot hold code: that of a custom layer, or of a decoder.
"""

import numpy as np
import tensorflow as tf

from kd_keras.cache.disk import DamagedCache
from kd_keras.cache.request import Request
from kd_keras.cache.rows import Stored
from kd_keras.cache.transfer import pixel_fingerprints

PROBED = 4


class ChangingTeacher(ValueError):
    """A teacher does not give the same answer each time that it is asked about an image."""


def refuse_changing(request: Request, images: tf.Tensor) -> None:
    """Ask about a few images twice, the second time fewer of them and in another order.

    Args:
        request: whose answers are to be stored.
        images: a batch, of which the first are taken.

    Raises:
        ChangingTeacher: the answers differ by more than rounding.
    """
    images = images[: 2 * PROBED]
    few = (len(images) + 1) // 2
    first, again = request.answers_now(images), request.answers_now(images[:few][::-1])
    for column in request.columns:
        answers = first[column.tap]
        largest = np.abs(answers).max(initial=0.0)
        off = np.abs(answers[:few][::-1] - again[column.tap]).max() / max(largest, 1e-30)
        if off > request.source.rounding:  # what is not finite is another error's
            raise ChangingTeacher(
                "The teacher must give the same answer each time for it to be stored. Received: "
                f"tap {column.tap!r}, off by {off:.2g} of its largest number when it was asked "
                "again about the same images. A layer of it draws random numbers in inference, or "
                "looks at the whole batch. Run it live, with teacher_cache='off'"
            )


def probe(stored: Stored, request: Request) -> None:
    """Compare the first images, and the answers on them, with what is stored.

    Answers may differ by the rounding of another batch size or device, relative to the largest
    answer of the tap: by `source.rounding`, and twice what the storage rounds.

    Raises:
        DamagedCache: the images or the answers are others.
    """
    images = request.transfer_set.first(PROBED)[: stored.count]
    rows, same = _rows(stored, request, images)
    if not same.all():
        raise DamagedCache(
            f"the images of {request.transfer_set.name!r} are not those that it was made from"
        )
    _compare(stored, request, images, rows)


def probe_unfinished(stored: Stored, request: Request) -> None:
    """As `probe`, for the first images of which the answers are there already.

    Raises:
        DamagedCache: the answers are others.
    """
    images = request.transfer_set.first(PROBED)[: stored.count]
    rows, there = _rows(stored, request, images)
    if there.any():
        _compare(stored, request, images[there], rows[there])


def _rows(stored: Stored, request: Request, images) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some images, and whether these are their rows."""
    pixels, known = pixel_fingerprints(images).numpy(), np.asarray(stored.pixels)
    rows = request.transfer_set.places(pixels, known)
    return rows, known[rows] == pixels


def _compare(stored: Stored, request: Request, images, rows: np.ndarray) -> None:
    answers = request.answers_now(images)
    for column in stored.columns:
        error = column.storage.error(stored.kept(column, rows), answers[column.tap])
        allowed = request.source.rounding + 2 * column.storage.rounding
        if not error <= allowed:
            raise DamagedCache(
                f"the teacher answers otherwise now: tap {column.tap!r} is off by {error:.2g} of "
                f"its largest number, and {allowed:.2g} is allowed"
            )
