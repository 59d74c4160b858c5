"""Run the teacher over a transfer set, batch by batch, in constant memory."""

import contextlib
import errno
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from kd_keras.cache import disk
from kd_keras.cache.disk import DamagedCache, DiskWriter, MemoryWriter
from kd_keras.cache.request import Request
from kd_keras.cache.rows import InMemory, Stored
from kd_keras.cache.transfer import ChangedImages, pixel_fingerprints
from kd_keras.utils import interrupts

PROBED = 4
BUILDING = ".building"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class ChangingTeacher(ValueError):
    """A teacher whose predictions for an image differ from run to run."""


def refuse_changing(request: Request, images: tf.Tensor) -> None:
    """Run the teacher on a few images twice, the second time on fewer and in another order.

    Args:
        request: the request whose predictions are to be stored.
        images: a batch, of which the first images are used.

    Raises:
        ChangingTeacher: if the predictions differ by more than rounding.
    """
    images = images[: 2 * PROBED]
    few = (len(images) + 1) // 2
    first, again = request.answers_now(images), request.answers_now(images[:few][::-1])
    for column in request.columns:
        answers = first[column.tap]
        largest = np.abs(answers).max(initial=0.0)
        off = np.abs(answers[:few][::-1] - again[column.tap]).max() / max(largest, 1e-30)
        if off > request.source.rounding:  # false for NaN: `Column.encode` refuses it
            raise ChangingTeacher(
                "The teacher must give the same output each time for it to be stored. Received: "
                f"tap {column.tap!r}, off by {off:.2g} of its largest value when the teacher was "
                "run again on the same images. One of its layers uses random numbers at "
                "inference, or depends on the whole batch. Run it live, with teacher_cache='off'"
            )


def probe(stored: Stored, request: Request) -> None:
    """Compare the first images, and the predictions on them, with the stored rows.

    Predictions may differ by the rounding of another batch size or device: by `source.rounding`
    plus twice the rounding of the storage, relative to the largest value of the tap.

    Raises:
        DamagedCache: if the images or the predictions differ.
    """
    images = request.transfer_set.first(PROBED)[: stored.count]
    rows, same = _rows(stored, request, images)
    if not same.all():
        raise DamagedCache(
            f"the images of {request.transfer_set.name!r} are not those it was made from"
        )
    _compare(stored, request, images, rows)


def probe_unfinished(stored: Stored, request: Request) -> None:
    """Do as `probe` does, for those of the first images that already have a row.

    Raises:
        DamagedCache: if the predictions differ.
    """
    images = request.transfer_set.first(PROBED)[: stored.count]
    rows, there = _rows(stored, request, images)
    if there.any():
        _compare(stored, request, images[there], rows[there])


def _rows(stored: Stored, request: Request, images) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of some images, and for each whether it really is that image's row."""
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
                f"the teacher's outputs have changed: tap {column.tap!r} is off by {error:.2g} of "
                f"its largest value, but only {allowed:.2g} is allowed"
            )


log = logging.getLogger(__name__)


def in_memory(request: Request, limit: int | None) -> InMemory:
    """Compute the rows into memory.

    Raises:
        ValueError: for more than `limit` bytes, and for predictions that are not finite or cannot
            be stored.
    """
    check_limit(request, limit)
    writer = MemoryWriter(request)
    _run(request, writer, limit)
    return writer.finish()


def on_disk(request: Request, directory: Path, *, limit: int | None, room: float) -> Stored:
    """Open the rows in `directory`, after computing those that are missing.

    Args:
        request: the requested rows.
        directory: holds one folder per key; created if it does not exist.
        limit: bytes that the rows may take, or None.
        room: bytes of memory; rows that take less are read into it.

    Raises:
        ValueError: for more than `limit` bytes, for predictions that are not finite or cannot be
            stored, and for a pipeline that gave other images in its second pass.
        OSError: if the disk is too small, or full.
    """
    directory.mkdir(parents=True, exist_ok=True)
    folder = directory / request.key
    with disk.held(directory, request.key):
        if folder.exists():
            try:
                return _reopen(request, folder, room)
            except DamagedCache as reason:
                log.warning("%s is not used and is computed again: %s.", folder, reason)
                disk.remove(folder)
        _build(request, folder, limit)
        stored = disk.read(folder, request, room)
        disk.use(folder)
        return stored


def _reopen(request: Request, folder: Path, room: float) -> Stored:
    stored = disk.read(folder, request, room)
    probe(stored, request)
    disk.use(folder)
    log.info("Opened %s in %s: %d rows.", request.source.product, folder, stored.count)
    return stored


def check_limit(request: Request, limit: int | None) -> None:
    """Refuse rows that would take more than `limit` bytes, if their size is known.

    Raises:
        ValueError: names both sizes.
    """
    if limit is not None and request.size is not None and request.size > limit:
        _refuse(f"take {request.size} bytes", request, limit)


def _refuse(what: str, request: Request, limit: int) -> None:
    product = request.source.product.capitalize()
    raise ValueError(
        f"{product} for {request.transfer_set.name!r} {what}, more than "
        f"`limit`={limit} allows. One image takes {request.row_bytes} bytes: use a larger limit, "
        "fewer views, or a smaller `storage`, such as 'float16' or 'top10'."
    )


def _build(request: Request, folder: Path, limit: int | None) -> None:
    check_limit(request, limit)
    partial = folder.with_name(folder.name + BUILDING)
    with contextlib.closing(_writer(request, partial)) as writer:
        _check_space(request, writer.count, folder.parent)
        _announce(request, writer.count, folder)
        try:
            _run(request, writer, limit)
            writer.finish(folder)
        except ChangedImages:
            shutil.rmtree(partial)  # its key is of images that will not come again
            raise
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise OSError(
                error.errno,
                f"{os.strerror(error.errno)} while {request.source.product} were written. Free "
                "some space and try again: finished rows are kept, and the build resumes there",
                str(partial),
            ) from error


def _writer(request: Request, partial: Path) -> DiskWriter:
    """Return a writer that resumes a killed build if its rows are valid, or else starts anew."""
    try:
        writer = DiskWriter(request, partial)
        if writer.count:
            try:
                probe_unfinished(writer.opened(), request)
            except BaseException:
                writer.close()
                raise
    except DamagedCache as reason:
        log.warning("%s is discarded and started again: %s.", partial, reason)
        shutil.rmtree(partial)
        return DiskWriter(request, partial)
    return writer


def _check_space(request: Request, done: int, directory: Path) -> None:
    if request.size is None:
        return
    needed, free = request.size - done * request.row_bytes, shutil.disk_usage(directory).free
    if needed > free:
        product = request.source.product
        message = f"{product.capitalize()} take {needed} bytes, but only {free} are free"
        raise OSError(errno.ENOSPC, message, str(directory))


def _announce(request: Request, done: int, folder: Path) -> None:
    count = request.transfer_set.count
    log.info(
        "Computing %s for %r into %s: %s rows of %d bytes%s%s.",
        request.source.product,
        request.transfer_set.name,
        folder,
        "an unknown number of" if count is None else count,
        request.row_bytes,
        "" if request.size is None else f", {request.size / 1e6:.1f} MB",
        f"; {done} rows are done" if done else "",
    )


def _run(request: Request, writer: MemoryWriter | DiskWriter, limit: int | None) -> None:
    """Run the teacher on every image that has no row."""
    ask = request.answers()
    for number, batch in enumerate(request.transfer_set.remaining(writer.stored())):
        interrupts.check()
        if number == 0:
            refuse_changing(request, batch.images)
        answers = ask(batch.images)
        encoded = {
            (column.tap, name): part
            for column in request.columns
            for name, part in column.encode(answers[column.tap][batch.new], writer.count).items()
        }
        writer.add(batch.pixels[batch.new], encoded)
        if limit is not None and writer.count * request.row_bytes > limit:
            _refuse(
                f"took {writer.count * request.row_bytes} bytes before they were complete",
                request,
                limit,
            )
    request.transfer_set.check_complete(writer.count)
