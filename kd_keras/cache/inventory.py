"""What lies in a directory of stored answers: listed, checked, and thrown away when it is old."""

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
# all that the library writes into the folder of a key
OURS = (disk.META, disk.USED, disk.PIXELS_FILE, PROGRESS, "[0-9]*-*.bin", f"{MARK}*")
DAY = 24 * 60 * 60


@dataclasses.dataclass(frozen=True)
class Entry:
    """One folder of stored answers.

    Attributes:
        key: sixteen hexadecimal digits.
        folder: where it lies.
        state: `"whole"`, `"damaged"`, `"building"` (now, by some process) or `"unfinished"` (left
            by a build that was killed; the next one takes it up).
        problem: why it is damaged, else "".
        bytes: of its files.
        last_used: seconds since 1970.
        name: of the transfer set; "" where that cannot be read, as the next three.
        rows: how many.
        storage: dict from tap to the name of its storage.
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
        """The teacher's taps that are stored."""
        return tuple(self.storage)


def entries(directory: str | os.PathLike[str]) -> list[Entry]:
    """What is stored in a directory, the last used first. Rows are not read.

    Example:
        >>> import tempfile
        >>> entries(tempfile.mkdtemp())
        []
    """
    found = [_entry(folder) for folder in _folders(Path(directory))]
    return sorted(found, key=lambda entry: entry.last_used, reverse=True)


def verify(directory: str | os.PathLike[str], key: str | None = None) -> list[Entry]:
    """As `entries`, after all checksums were compared.

    Args:
        directory: where the answers are stored.
        key: of the one to check, or None for all.

    Raises:
        ValueError: for a key that is not there.
    """
    found = [_entry(folder, fully=True) for folder in _folders(Path(directory), key)]
    if key is not None and not found:
        raise ValueError(f"{directory} holds no answers of the key {key!r}.")
    return sorted(found, key=lambda entry: entry.last_used, reverse=True)


def prune(
    directory: str | os.PathLike[str],
    *,
    older_than_days: float | None = None,
    keep_bytes: int | None = None,
) -> list[Entry]:
    """Throw away what is damaged, what killed builds left, and if asked for what is old.

    What some process is building or opening stays, and a process that has rows open keeps them.

    Args:
        directory: where the answers are stored.
        older_than_days: also what was not used for so long.
        keep_bytes: also the least recently used, until no more than this is taken.

    Returns:
        What was thrown away.

    Raises:
        ValueError: for a number that is not positive.
    """
    if older_than_days is not None:
        positive("older_than_days", older_than_days)
    if keep_bytes is not None and keep_bytes < 0:
        raise ValueError(f"`keep_bytes` must not be negative. Received: keep_bytes={keep_bytes}")
    oldest = 0.0 if older_than_days is None else time.time() - older_than_days * DAY
    removed, total = [], 0
    for entry in entries(directory):  # the last used first: the room goes to them
        total += entry.bytes
        sound = entry.state in ("whole", "building") and entry.last_used >= oldest
        if sound and (keep_bytes is None or total <= keep_bytes):
            continue
        if _remove(entry):
            removed.append(entry)
    clear(directory)  # of removals that were killed
    return removed


def _remove(entry: Entry) -> bool:
    """Whether the folder could be removed: not while its lock is held."""
    with _held_now(entry.folder.parent, entry.key) as held:
        if not held:
            log.info("%s is in use and stays.", entry.folder)
        elif entry.folder.exists():  # else somebody was faster
            disk.remove(entry.folder)
            return True
    return False


@contextlib.contextmanager
def _held_now(directory: Path, key: str) -> Iterator[bool]:
    """Hold the lock of a key if that can be had at once; says whether it is held."""
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
    """Whether a folder is of answers: somebody else's may have such a name too."""
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
