"""Asking the teacher again about a few images, before rows that were stored earlier are used.

The key holds weights and settings, and cannot hold code: that of a custom layer, or of a decoder.
"""

import numpy as np

from kd_keras.cache.disk import DamagedCache
from kd_keras.cache.request import Request
from kd_keras.cache.store import Stored
from kd_keras.cache.transfer import pixel_fingerprints

PROBED = 4


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
