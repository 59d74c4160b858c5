"""List, check and prune the contents of a directory of stored predictions and images."""

import contextlib
import dataclasses
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd_keras.cache import disk
from kd_keras.cache.build import BUILDING
from kd_keras.cache.disk import PROGRESS, DamagedCache
from kd_keras.utils.checks import positive
from kd_keras.utils.files import MARK, clear, is_ours

log = logging.getLogger(__name__)

KEY = re.compile(r"[0-9a-f]{16}")
# everything that the library writes into the folder of a key
OURS = (disk.META, disk.USED, disk.PIXELS_FILE, PROGRESS, "[0-9]*-*.bin", f"{MARK}*")
DAY = 24 * 60 * 60


@dataclasses.dataclass(frozen=True)
class Entry:
    """One folder of stored predictions, or of decoded images, whose only tap is `image`.

    Attributes:
        key: sixteen hexadecimal digits.
        folder: its path.
        state: `"whole"`, `"damaged"`, `"building"` (now, by some process) or `"unfinished"` (left
            by a killed build; the next one resumes it).
        problem: why it is damaged, or "".
        bytes: the total size of its files.
        last_used: seconds since 1970.
        name: the name of the transfer set; "" if it cannot be read.
        rows: the number of rows; 0 if it cannot be read.
        storage: dict from tap to the name of its storage; empty if it cannot be read.
    """

    key: str
    folder: Path
    state: str
    problem: str
    bytes: int
    last_used: float
    name: str = ""
    rows: int = 0
    storage: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def taps(self) -> tuple[str, ...]:
        """The stored taps of the teacher."""
        return tuple(self.storage)


def entries(directory: str | os.PathLike[str]) -> list[Entry]:
    """List what is stored in a directory, most recently used first, without reading rows.

    Example:
        >>> import tempfile
        >>> entries(tempfile.mkdtemp())
        []
    """
    found = [_entry(folder) for folder in _folders(Path(directory))]
    return sorted(found, key=lambda entry: entry.last_used, reverse=True)


def verify(directory: str | os.PathLike[str], key: str | None = None) -> list[Entry]:
    """List what is stored, as `entries` does, after checking all checksums.

    Args:
        directory: where the predictions are stored.
        key: the key to check, or None for all.

    Raises:
        ValueError: for a key that is not there.
    """
    found = [_entry(folder, fully=True) for folder in _folders(Path(directory), key)]
    if key is not None and not found:
        raise ValueError(f"{directory} holds no predictions with the key {key!r}.")
    return sorted(found, key=lambda entry: entry.last_used, reverse=True)


def prune(
    directory: str | os.PathLike[str],
    *,
    older_than_days: float | None = None,
    keep_bytes: int | None = None,
) -> list[Entry]:
    """Remove damaged entries, the remains of killed builds and, if requested, old entries.

    Entries that a process is building or opening stay. Processes that have rows open can keep
    using them.

    Args:
        directory: where the predictions are stored.
        older_than_days: also remove entries that were not used for this long.
        keep_bytes: also remove the least recently used entries, until the rest take no more.

    Returns:
        The removed entries.

    Raises:
        ValueError: for a number that is not positive.
    """
    if older_than_days is not None:
        positive("older_than_days", older_than_days)
    if keep_bytes is not None and keep_bytes < 0:
        raise ValueError(f"`keep_bytes` must not be negative. Received: keep_bytes={keep_bytes}")
    oldest = 0.0 if older_than_days is None else time.time() - older_than_days * DAY
    removed, total = [], 0
    for entry in entries(directory):  # the most recently used first: they get the room
        total += entry.bytes
        sound = entry.state in ("whole", "building") and entry.last_used >= oldest
        if sound and (keep_bytes is None or total <= keep_bytes):
            continue
        if _remove(entry):
            removed.append(entry)
    clear(directory)  # of removals that were killed
    return removed


def _remove(entry: Entry) -> bool:
    """Remove a folder unless its lock is held; return whether it was removed."""
    with _held_now(entry.folder.parent, entry.key) as held:
        if not held:
            log.info("%s is in use and is not removed.", entry.folder)
        elif entry.folder.exists():  # else another process was faster
            disk.remove(entry.folder)
            return True
    return False


@contextlib.contextmanager
def _held_now(directory: Path, key: str) -> Iterator[bool]:
    """Hold the lock of a key if it is free; yield whether it is held."""
    lock = FileLock(directory / f"{key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _folders(directory: Path, key: str | None = None) -> list[Path]:
    if not directory.is_dir():
        return []
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_dir()
        and KEY.fullmatch(path.name.removesuffix(BUILDING))
        and key in (None, path.name.removesuffix(BUILDING))
        and _is_ours(path)
    ]


def _is_ours(folder: Path) -> bool:
    """Return whether the library wrote this folder: a foreign one may have such a name too."""
    names = [path.name for path in folder.iterdir()]
    return all(is_ours(name, OURS) or name.startswith(".") for name in names) and (
        not names or any(is_ours(name, OURS) for name in names)
    )


def _entry(folder: Path, fully: bool = False) -> Entry:
    key = folder.name.removesuffix(BUILDING)
    meta: dict[str, Any] = {}
    problem = ""
    if folder.name == key:
        state = "whole"
        try:
            meta = disk.read_meta(folder)
            if fully:
                disk.check_chunks(folder, meta, disk.chunks_of(meta))
        except DamagedCache as reason:
            state, problem = "damaged", str(reason)
    else:
        with _held_now(folder.parent, key) as held:
            state = "unfinished" if held else "building"
    return Entry(
        key=key,
        folder=folder,
        state=state,
        problem=problem,
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        last_used=_last_used(folder),
        name=meta.get("name", ""),
        rows=meta.get("count", 0),
        storage=meta.get("content", {}).get("taps", {}),
    )


def _last_used(folder: Path) -> float:
    used = folder / disk.USED
    return (used if used.exists() else folder).stat().st_mtime
