"""Where rows go while the teacher runs: into memory, or into files that are taken up again."""

import os
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.cache import disk
from kd_keras.cache.disk import DamagedCache
from kd_keras.cache.request import Request
from kd_keras.cache.rows import InMemory, Mapped
from kd_keras.utils.files import clear, naming, write_json

CHUNK_BYTES = 4 * 2**20
FLUSH_SECONDS = 10.0  # what a kill may cost
PROGRESS = "progress.json"
Encoded = dict[tuple[str, str], np.ndarray]


class MemoryWriter:
    """Gathers rows in memory."""

    def __init__(self, request: Request):
        self._request = request
        self._pixels: list[np.ndarray] = []
        self._parts: dict[tuple[str, str], list[np.ndarray]] = {p: [] for p in request.parts}
        self.count = 0

    def stored(self) -> np.ndarray:
        """The fingerprints of the images that have a row."""
        return np.zeros(0, np.int64)

    def add(self, pixels: np.ndarray, encoded: Encoded) -> None:
        """Keep the rows of some more images."""
        self._pixels.append(pixels)
        for place, rows in encoded.items():
            self._parts[place].append(rows)
        self.count += len(pixels)

    def finish(self) -> InMemory:
        """The rows, opened."""
        parts = {place: np.concatenate(self._parts.pop(place)) for place in [*self._parts]}
        pixels = np.concatenate(self._pixels)
        return InMemory(self._request.columns, parts, pixels, self._request.transfer_set.views)


class _Growing:
    """A file that grows, with the CRC-32 of each of its chunks; the last may be a part of one."""

    def __init__(self, path: Path, chunk_bytes: int):
        self._chunk_bytes = chunk_bytes
        self._file = path.open("ab", buffering=0)
        self.path = path
        self.size = 0
        self.checksums: list[int] = []

    def take_up(self, size: int, checksums: list[int]) -> None:
        """Go on after `size` bytes, which must be there and right; what is beyond them is cut off.

        Raises:
            DamagedCache: they are not.
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
                written = self._file.write(piece)  # less than all of it, where a disk fills up
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
    """Writes rows to a folder, and goes on where a killed one stopped.

    Args:
        request: what is built.
        folder: `<key>.building`.

    Raises:
        DamagedCache: what lies in the folder is torn, or the rows of something else.
    """

    def __init__(self, request: Request, folder: Path):
        self._request, self._folder = request, folder
        self._chunk_rows = max(1, CHUNK_BYTES // request.row_bytes)
        self.count = 0
        self._files: dict[Any, _Growing] = {}
        folder.mkdir(exist_ok=True)
        clear(folder)  # of what was half written when the build was killed
        try:
            for place, file in disk.files_of(request).items():
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
        done = disk.read_signed(path)
        mine = {"content": self._request.content, "chunk_rows": self._chunk_rows}
        if any(done.get(name) != value for name, value in mine.items()):
            raise DamagedCache("it was begun with other settings")
        for place, file in disk.files_of(self._request).items():
            size = done["rows"] * file.part.row_bytes
            self._files[place].take_up(size, done["checksums"][file.name])
        self.count = done["rows"]

    def stored(self) -> np.ndarray:
        """The fingerprints of the images that have a row."""
        return np.fromfile(self._folder / disk.PIXELS_FILE, np.int64)

    def opened(self) -> Mapped:
        """The rows so far, to be looked into."""
        files = disk.files_of(self._request)
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
        if self._unflushed >= self._chunk_rows or waited > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Say how far the files are good: a build that is killed goes on from there."""
        checksums = {growing.path.name: growing.checksums for growing in self._files.values()}
        progress = {
            "content": self._request.content,
            "chunk_rows": self._chunk_rows,
            "rows": self.count,
            "checksums": checksums,
        }
        write_json(self._folder / PROGRESS, disk.signed(progress))
        self._last_flush, self._unflushed = time.monotonic(), 0

    def finish(self, final: Path) -> None:
        """Give the folder its name, all of it being on the disk."""
        for growing in self._files.values():
            growing.sync()
        listed = [
            {**entry, "checksums": growing.checksums}
            for entry, growing in zip(disk.layout(self._request), self._files.values(), strict=True)
        ]
        meta = {
            "key": self._request.key,
            "content": self._request.content,
            "name": self._request.transfer_set.name,
            "count": self.count,
            "chunk_rows": self._chunk_rows,
            "files": listed,
        }
        write_json(self._folder / disk.META, disk.signed(meta))
        for path in (self._folder / disk.META, self._folder):
            _sync(path)
        self._folder.rename(final)
        _sync(final.parent)
        # only now: a build killed before has it to go on from
        (final / PROGRESS).unlink(missing_ok=True)

    def close(self) -> None:
        for growing in self._files.values():
            growing.close()


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
