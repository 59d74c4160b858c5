"""Rows on disk: a folder named by its key, opened only if it is whole and what it says it is.

`<key>/meta.json` says what the rows were made from and holds a CRC-32 of every chunk; each part of
each tap is one flat file; `pixels.bin` holds the fingerprints of the images.
"""

import contextlib
import dataclasses
import logging
import random
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from kd_keras.cache.encoding import Part
from kd_keras.cache.request import PIXELS, VERSION, Request
from kd_keras.cache.rows import InMemory, Mapped, Stored
from kd_keras.utils import records
from kd_keras.utils.files import discard, fingerprint

log = logging.getLogger(__name__)

META, USED, PIXELS_FILE = "meta.json", "used", "pixels.bin"
CHECKED_BYTES = 2**30  # up to here all chunks are checked when rows are opened
SAMPLE = 16  # above it: the first, the last and so many others


class DamagedCache(Exception):
    """Stored rows that are not whole, or not what they say they are. They are not read."""


@contextlib.contextmanager
def held(directory: Path, key: str) -> Iterator[None]:
    """Hold the lock of a key: one builder at a time, in this process or another; others wait.

    The lock's file stays behind. Deleting it could cut a waiting process off from the next
    one, and both would build.
    """
    lock = FileLock(directory / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another process is at work on %s: waiting for it.", directory / key)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclasses.dataclass(frozen=True)
class File:
    """One flat file of rows."""

    name: str
    part: Part


def files_of(request: Request) -> dict[tuple[str, str] | None, File]:
    """The files of a request by tap and part; None stands for the fingerprints.

    They are numbered: a tap may be a path, with slashes.
    """
    taps = [column.tap for column in request.columns]
    files: dict[tuple[str, str] | None, File] = {
        (tap, name): File(f"{taps.index(tap)}-{name}.bin", part)
        for (tap, name), part in request.parts.items()
    }
    return {**files, None: File(PIXELS_FILE, PIXELS)}


def layout(request: Request) -> list[dict[str, Any]]:
    """The files of a request, as `meta.json` lists them."""
    return [
        {
            "file": file.name,
            "tap": place and place[0],
            "dtype": file.part.dtype,
            "shape": list(file.part.shape),
            "row_bytes": file.part.row_bytes,
        }
        for place, file in files_of(request).items()
    ]


def signed(meta: dict[str, Any]) -> dict[str, Any]:
    """`meta` with the digest of itself."""
    return {**meta, "digest": fingerprint(meta)}


def read_signed(path: Path) -> dict[str, Any]:
    """What `signed` made, from a file.

    Raises:
        DamagedCache: it is not there, or is not what was written.
    """
    try:
        return records.read_signed(path)
    except FileNotFoundError as error:
        raise DamagedCache(f"{path.name} is missing") from error
    except records.DamagedFile as error:
        raise DamagedCache(f"{path.name} is damaged: {error.reason}") from error


def read_meta(folder: Path) -> dict[str, Any]:
    """What a folder says of itself, after what can be checked without reading its rows.

    Raises:
        DamagedCache: it is not there, was edited, is of another key, or a file's size is wrong.
    """
    meta = read_signed(folder / META)
    if meta["content"]["version"] != VERSION:
        raise DamagedCache(f"it has format {meta['content']['version']}, not {VERSION}")
    key = fingerprint(meta["content"])
    if not folder.name == meta["key"] == key:
        raise DamagedCache(f"the folder {folder.name} holds the rows of the key {key}")
    for entry in meta["files"]:
        path, size = folder / entry["file"], meta["count"] * entry["row_bytes"]
        if not path.is_file():
            raise DamagedCache(f"{path.name} is missing")
        if path.stat().st_size != size:
            raise DamagedCache(f"{path.name} has {path.stat().st_size} bytes, not {size}")
    return meta


def check_chunks(folder: Path, meta: dict[str, Any], chunks: Iterable[int]) -> None:
    """Compare checksums of some chunks with those of `meta`, in parallel.

    Raises:
        DamagedCache: naming file and rows.
    """

    def check(place):
        entry, chunk = place
        length = meta["chunk_rows"] * entry["row_bytes"]
        with (folder / entry["file"]).open("rb") as file:
            file.seek(chunk * length)
            if zlib.crc32(file.read(length)) != entry["checksums"][chunk]:
                raise DamagedCache(
                    f"the checksum of {entry['file']} is wrong from row "
                    f"{chunk * meta['chunk_rows']} on"
                )

    with ThreadPoolExecutor() as pool:  # crc32 releases the interpreter's lock
        for _ in pool.map(check, [(entry, chunk) for chunk in chunks for entry in meta["files"]]):
            pass


def chunks_of(meta: dict[str, Any]) -> range:
    """The numbers of all chunks."""
    return range(-(-meta["count"] // meta["chunk_rows"]))


def _chunks_to_check(meta: dict[str, Any]) -> Iterable[int]:
    every = chunks_of(meta)
    if meta["count"] * sum(entry["row_bytes"] for entry in meta["files"]) <= CHECKED_BYTES:
        return every
    # others at every opening: what is wrong is found sooner or later
    some = random.SystemRandom().sample(every, min(SAMPLE, len(every)))
    return {every[0], every[-1], *some}


def read(folder: Path, request: Request, room: float) -> Stored:
    """Open the rows of a request.

    Args:
        folder: named by the key.
        request: what they must be the rows of.
        room: bytes; rows that take less are read into memory, others are mapped.

    Raises:
        DamagedCache: they are not whole, or not what was asked for.
    """
    meta = read_meta(folder)
    listed = [{k: v for k, v in entry.items() if k != "checksums"} for entry in meta["files"]]
    if meta["content"] != request.content or listed != layout(request):
        raise DamagedCache("it holds other rows than its key says")
    check_chunks(folder, meta, _chunks_to_check(meta))
    count, views = meta["count"], request.transfer_set.views
    try:
        request.transfer_set.check_complete(count)
    except ValueError as error:
        raise DamagedCache(str(error)) from error
    arrays = {place: _map(folder / file.name, file.part, count) for place, file in _open(request)}
    pixels = np.array(arrays.pop(None))
    if meta["count"] * request.row_bytes < room:
        return InMemory(request.columns, arrays, pixels, views)
    return Mapped(request.columns, arrays, pixels, views)


def _open(request: Request) -> Iterable[tuple[Any, File]]:
    return files_of(request).items()


def _map(path: Path, part: Part, count: int) -> Any:
    return np.memmap(path, part.dtype, "r", shape=(count, *part.shape))


def use(folder: Path) -> None:
    """Note the time: rows that were not used for long are the first to go."""
    (folder / USED).touch()


def remove(folder: Path) -> None:
    """Delete a folder whose lock is held; it loses its name first, so that it is never half there.

    Processes that already mapped these files can keep using them.
    """
    discard([folder])
