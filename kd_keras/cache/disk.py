"""Rows on disk: a folder named by its key, opened only if it is whole, and written bit by bit.

`<key>/meta.json` records what the rows were made from and a CRC-32 of every chunk. Each part of
each tap is one flat file. `pixels.bin` holds the fingerprints of the images.
"""

import contextlib
import dataclasses
import logging
import os
import random
import time
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
from kd_keras.utils.files import clear, discard, fingerprint, naming, write_json

log = logging.getLogger(__name__)

META, USED, PIXELS_FILE, PROGRESS = "meta.json", "used", "pixels.bin", "progress.json"
CHECKED_BYTES = 2**30  # up to this size, all chunks are checked when rows are opened
SAMPLE = 16  # above it, the first chunk, the last, and so many others
CHUNK_BYTES = 4 * 2**20
FLUSH_SECONDS = 10.0  # the work that a kill may lose

Encoded = dict[tuple[str, str], np.ndarray]


class DamagedCache(Exception):
    """Stored rows that are incomplete, or do not match their description. They are not read."""


@contextlib.contextmanager
def held(directory: Path, key: str) -> Iterator[None]:
    """Hold the lock of a key: one builder at a time, in any process; others wait.

    The lock file stays behind. If it were deleted, a waiting process and the next one could hold
    different locks, and both would build.
    """
    lock = FileLock(directory / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("Another process is working on %s: waiting for it.", directory / key)
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
    """Return the files of a request, by tap and part; None stands for the fingerprints.

    File names are numbered, since a tap may be a path, with slashes.
    """
    taps = [column.tap for column in request.columns]
    files: dict[tuple[str, str] | None, File] = {
        (tap, name): File(f"{taps.index(tap)}-{name}.bin", part)
        for (tap, name), part in request.parts.items()
    }
    return {**files, None: File(PIXELS_FILE, PIXELS)}


def layout(request: Request) -> list[dict[str, Any]]:
    """Return the files of a request, as `meta.json` lists them."""
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
    """Return `meta` with its own digest."""
    return {**meta, "digest": fingerprint(meta)}


def read_signed(path: Path) -> dict[str, Any]:
    """Read from a file what `signed` made.

    Raises:
        DamagedCache: if it is missing, or is not what was written.
    """
    try:
        return records.read_signed(path)
    except FileNotFoundError as error:
        raise DamagedCache(f"{path.name} is missing") from error
    except records.DamagedFile as error:
        raise DamagedCache(f"{path.name} is damaged: {error.reason}") from error


def read_meta(folder: Path) -> dict[str, Any]:
    """Read a folder's `meta.json`, and check all that can be checked without reading rows.

    Raises:
        DamagedCache: if it is missing, was edited, or has another key, or if a file is missing or
            has the wrong size.
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
    """Compare the checksums of some chunks with those in `meta`, in parallel.

    Raises:
        DamagedCache: names the file and the first row of the chunk.
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
    """Return the numbers of all chunks."""
    return range(-(-meta["count"] // meta["chunk_rows"]))


def _chunks_to_check(meta: dict[str, Any]) -> Iterable[int]:
    every = chunks_of(meta)
    if meta["count"] * sum(entry["row_bytes"] for entry in meta["files"]) <= CHECKED_BYTES:
        return every
    # other chunks at every opening, so that damage is found sooner or later
    some = random.SystemRandom().sample(every, min(SAMPLE, len(every)))
    return {every[0], every[-1], *some}


def read(folder: Path, request: Request, room: float) -> Stored:
    """Open the rows of a request.

    Args:
        folder: named by the key.
        request: the request that the rows must belong to.
        room: bytes; rows that take less are read into memory, others are mapped.

    Raises:
        DamagedCache: if the rows are incomplete, or not the requested ones.
    """
    meta = read_meta(folder)
    listed = [{k: v for k, v in entry.items() if k != "checksums"} for entry in meta["files"]]
    if meta["content"] != request.content or listed != layout(request):
        raise DamagedCache("it holds rows that do not match its key")
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
    """Note the time of use: the least recently used rows are pruned first."""
    (folder / USED).touch()


def remove(folder: Path) -> None:
    """Delete a folder whose lock is held; it loses its name first, so that it never lies half gone.

    Processes that already mapped these files can keep using them.
    """
    discard([folder])


class MemoryWriter:
    """Gathers rows in memory."""

    def __init__(self, request: Request):
        self._request = request
        self._pixels: list[np.ndarray] = []
        self._parts: dict[tuple[str, str], list[np.ndarray]] = {p: [] for p in request.parts}
        self.count = 0

    def stored(self) -> np.ndarray:
        """Return the fingerprints of the images that have a row."""
        return np.zeros(0, np.int64)

    def add(self, pixels: np.ndarray, encoded: Encoded) -> None:
        """Add the rows of some more images."""
        self._pixels.append(pixels)
        for place, rows in encoded.items():
            self._parts[place].append(rows)
        self.count += len(pixels)

    def finish(self) -> InMemory:
        """Return the rows, opened."""
        parts = {place: np.concatenate(self._parts.pop(place)) for place in [*self._parts]}
        pixels = np.concatenate(self._pixels)
        return InMemory(self._request.columns, parts, pixels, self._request.transfer_set.views)


class _Growing:
    """A growing file, with the CRC-32 of each of its chunks; the last chunk may be incomplete."""

    def __init__(self, path: Path, chunk_bytes: int):
        self._chunk_bytes = chunk_bytes
        self._file = path.open("ab", buffering=0)
        self.path = path
        self.size = 0
        self.checksums: list[int] = []

    def take_up(self, size: int, checksums: list[int]) -> None:
        """Resume after `size` bytes, which must be there and right; anything beyond is cut off.

        Raises:
            DamagedCache: if these bytes are missing or wrong.
        """
        if self.path.stat().st_size < size:
            raise DamagedCache(f"{self.path.name} is shorter than it was")
        self._file.truncate(size)
        with self.path.open("rb") as file:
            while chunk := file.read(self._chunk_bytes):
                self.checksums.append(zlib.crc32(chunk))
        if self.checksums != checksums:
            raise DamagedCache(f"a checksum of {self.path.name} is wrong")
        self.size = size

    def append(self, rows: np.ndarray) -> None:
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        while data:
            inside = self.size % self._chunk_bytes
            piece = data[: self._chunk_bytes - inside]
            with naming(self.path):
                written = self._file.write(piece)  # less than all of it if the disk fills up
            piece, data = piece[:written], data[written:]
            if inside:
                self.checksums[-1] = zlib.crc32(piece, self.checksums[-1])
            else:
                self.checksums.append(zlib.crc32(piece))
            self.size += written

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class DiskWriter:
    """Writes rows to a folder, and resumes where a killed writer stopped.

    Args:
        request: the rows to build.
        folder: `<key>.building`.

    Raises:
        DamagedCache: if the folder's rows are torn, or of another request.
    """

    def __init__(self, request: Request, folder: Path):
        self._request, self._folder = request, folder
        self._chunk_rows = max(1, CHUNK_BYTES // request.row_bytes)
        self.count = 0
        self._files: dict[Any, _Growing] = {}
        folder.mkdir(exist_ok=True)
        clear(folder)  # of files half written when a build was killed
        try:
            for place, file in files_of(request).items():
                chunk = self._chunk_rows * file.part.row_bytes
                self._files[place] = _Growing(folder / file.name, chunk)
            self._take_up()
        except BaseException:
            self.close()
            raise
        self._last_flush, self._unflushed = time.monotonic(), 0

    def _take_up(self) -> None:
        path = self._folder / PROGRESS
        if not path.exists():
            if any(growing.path.stat().st_size for growing in self._files.values()):
                raise DamagedCache(f"{PROGRESS} is missing")
            return
        done = read_signed(path)
        mine = {"content": self._request.content, "chunk_rows": self._chunk_rows}
        if any(done.get(name) != value for name, value in mine.items()):
            raise DamagedCache("it was started with other settings")
        for place, file in files_of(self._request).items():
            size = done["rows"] * file.part.row_bytes
            self._files[place].take_up(size, done["checksums"][file.name])
        self.count = done["rows"]

    def stored(self) -> np.ndarray:
        """Return the fingerprints of the images that have a row."""
        return np.fromfile(self._folder / PIXELS_FILE, np.int64)

    def opened(self) -> Mapped:
        """Open the rows written so far, for reading."""
        files = files_of(self._request)
        parts = {
            place: np.memmap(growing.path, files[place].part.dtype, "r").reshape(
                -1, *files[place].part.shape
            )
            for place, growing in self._files.items()
            if place is not None
        }
        return Mapped(self._request.columns, parts, self.stored())

    def add(self, pixels: np.ndarray, encoded: Encoded) -> None:
        """Write the rows of some more images."""
        for place, rows in encoded.items():
            self._files[place].append(rows)
        self._files[None].append(pixels)
        self.count += len(pixels)
        self._unflushed += len(pixels)
        waited = time.monotonic() - self._last_flush
        # not with every chunk of large rows: the record holds all checksums, and grows with them
        often = self._unflushed >= self._chunk_rows and waited > FLUSH_SECONDS / 10
        if often or waited > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Record how far the files are valid: a killed build resumes from there."""
        checksums = {growing.path.name: growing.checksums for growing in self._files.values()}
        progress = {
            "content": self._request.content,
            "chunk_rows": self._chunk_rows,
            "rows": self.count,
            "checksums": checksums,
        }
        write_json(self._folder / PROGRESS, signed(progress))
        self._last_flush, self._unflushed = time.monotonic(), 0

    def finish(self, final: Path) -> None:
        """Give the folder its final name, once all of it is on the disk."""
        for growing in self._files.values():
            growing.sync()
        listed = [
            {**entry, "checksums": growing.checksums}
            for entry, growing in zip(layout(self._request), self._files.values(), strict=True)
        ]
        meta = {
            "key": self._request.key,
            "content": self._request.content,
            "name": self._request.transfer_set.name,
            "count": self.count,
            "chunk_rows": self._chunk_rows,
            "files": listed,
        }
        write_json(self._folder / META, signed(meta))
        for path in (self._folder / META, self._folder):
            _sync(path)
        self._folder.rename(final)
        _sync(final.parent)
        # only now: a build killed before this resumes from it
        (final / PROGRESS).unlink(missing_ok=True)

    def close(self) -> None:
        for growing in self._files.values():
            growing.close()


def _sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
