"""Files that appear whole or not at all, and fingerprints made of content.

Files are written beside their target, in a working folder named `.kd_keras.NAME.XXXXXXXX`, which
stays locked as long as its process lives. A kill leaves such a folder behind, and the next write
to that target removes it. Nothing with another name is ever removed.
"""

import contextlib
import ctypes
import errno
import fcntl
import fnmatch
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MARK = ".kd_keras."  # prefix of the name of every working folder
LOCK = ".lock"  # inside it
REPLACED = "replaced"  # inside it: the folder that had the target's name before
GONE = ".gone"  # suffix of its name while it is removed
LONGEST = 200  # longest target name, in bytes, that its working folder repeats; the limit is 255
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str], *, ours: Collection[str] | None = None
) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `path` when the block succeeds.

    It lies beside `path`, so that the rename stays on one disk, and is flushed to the disk before
    it is renamed. A folder that was there before is replaced; if the block raises, it stays as it
    was. Linux exchanges the two in one step. If that is not possible, a kill between two renames
    leaves nothing under the name, and the next write to it, or `clear`, first restores the old
    folder. If several processes write at once, the last one wins.

    Args:
        path: the folder, or a symbolic link to it.
        ours: patterns of the names that are replaced. Entries with other names, which somebody else
            has put there, appear in the new folder too. By default all are replaced.

    Raises:
        FileExistsError: if `path` is a file.
        OSError: if it cannot be written; the error names `path`.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "model"
        >>> with whole_folder(target) as folder:
        ...     _ = (folder / "weights").write_text("1")
        >>> target.joinpath("weights").read_text()
        '1'
    """
    target = _real(path)
    with naming(target), _working_folder(target) as working:
        folder = working / target.name
        folder.mkdir()
        folder.chmod(0o755)
        yield folder
        if ours is not None and target.is_dir():
            _bring_along(target, folder, ours)
        for parent, _, names in os.walk(folder):
            for name in names:
                _sync(Path(parent, name))
            _sync(Path(parent))
        _replace_folder(folder, target)
        _sync(target.parent)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, with the name of `path`, that moves there when the block succeeds.

    The file is flushed to the disk before it moves, so that a loss of power, too, leaves either the
    old file or the new one.

    Raises:
        OSError: if it cannot be written; the error names `path`.
    """
    target = _real(path)
    with naming(target), _working_folder(target) as working:
        yield working / target.name
        _sync(working / target.name)
        os.replace(working / target.name, target)
        _sync(target.parent)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name `path` in errors that the block, which writes it, raises because the disk is full.

    Every library that writes files reports this in its own way, mostly without a name.

    Raises:
        OSError: with the system's error number, if it is known.
    """
    try:
        yield
    except Exception as error:
        code = _full(error)
        if code is None and type(error) is OSError and error.errno is None:  # numpy's, for one
            raise OSError(f"{path} cannot be written ({error}). Is the disk full?") from error
        if code is None:
            raise
        message = f"{os.strerror(code)} while this was being written; free some space and try again"
        raise OSError(code, message, os.fspath(path)) from error


def check_room(path: str | os.PathLike[str], size: int) -> None:
    """Refuse to begin a file that is too large for the disk.

    Args:
        path: of the file; its folder must exist.
        size: of the file, in bytes.

    Raises:
        OSError: if the disk has not enough room.
    """
    if shutil.disk_usage(Path(path).parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def _full(error: Exception) -> int | None:
    """Return the system's error number if the disk is full, or None."""
    if isinstance(error, OSError) and error.errno in FULL:
        return error.errno
    # HDF5 and TensorFlow report it in the message only
    return next((code for code in sorted(FULL) if os.strerror(code) in str(error)), None)


def default_directory() -> Path:
    """Return `KD_KERAS_CACHE` of the environment, or `kd_keras` in the user's cache folder."""
    if given := os.environ.get("KD_KERAS_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "kd_keras"


def clear(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove the working folders that killed processes have left in `folder`.

    Args:
        folder: the folder to clear.
        name: the target whose working folders are removed; None means all.
    """
    begin = MARK if name is None else f"{MARK}{_stem(name)}."
    if not os.path.isdir(folder):
        return
    for path in [Path(entry.path) for entry in os.scandir(folder)]:
        # the eight characters that `mkdtemp` draws
        named = path.name.startswith(begin) and re.search(rf"\.[a-z0-9_]{{8}}({GONE})?$", path.name)
        if not (named and path.is_dir() and not path.is_symlink() and os.access(path, os.W_OK)):
            continue
        if path.name.endswith(GONE):
            shutil.rmtree(path, ignore_errors=True)  # other processes may remove it too
            continue
        with _held(path) as held:
            if held:
                _bring_back(path)
                _remove(path)


def _remove(working: Path) -> None:
    """Remove a working folder whose lock is held.

    It is renamed together with its lock file, so that no process can make a new lock in its remains
    and take them for a complete folder.
    """
    gone = working.with_name(working.name + GONE)
    with contextlib.suppress(FileNotFoundError):  # removed by hand
        working.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def discard(paths: Iterable[Path]) -> None:
    """Remove files and folders of one folder; they lose their names first, one after the other.

    A kill leaves nothing half removed under its name, and `clear` removes the remains.
    """
    found = [path for path in paths if path.exists() or path.is_symlink()]
    if found:
        with _working_folder(found[0].parent / "discarded") as working:
            for number, path in enumerate(found):
                path.rename(working / str(number))


def _bring_back(working: Path) -> None:
    """Give a replaced folder its name back, if a kill came before its successor took the name."""
    for path in (working / REPLACED).glob("*"):
        target = working.parent / path.name
        try:
            if not target.exists():
                path.rename(target)
        except OSError as error:
            if error.errno not in TAKEN:  # the target has appeared meanwhile
                raise


@contextlib.contextmanager
def _working_folder(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    clear(target.parent, target.name)
    while True:
        prefix = f"{MARK}{_stem(target.name)}."
        working = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        with _held(working) as held:
            if not held:  # another process found it unlocked, and is removing it
                continue
            try:
                yield working
            finally:
                _remove(working)
        return


@contextlib.contextmanager
def _held(working: Path) -> Iterator[bool]:
    """Hold the lock of a working folder if it is free; yield whether it is held.

    This creates the lock file only; `filelock` would also create a folder that another process has
    just removed.
    """
    try:
        descriptor = os.open(working / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _locked(descriptor) and _is(descriptor, working / LOCK)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has this name: a former holder of its lock may have
    removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _stem(name: str) -> str:
    short = len(os.fsencode(name)) <= LONGEST
    return name if short else hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk itself."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_ours(name: str, patterns: Collection[str]) -> bool:
    """Return whether a name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _bring_along(old: Path, new: Path, ours: Collection[str]) -> None:
    """Hard-link foreign entries of a folder into its successor, or copy them if links fail.

    They are in both until the old folder is removed, so that a kill at any moment loses nothing.
    """
    for path in old.iterdir():
        if is_ours(path.name, ours) or (new / path.name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, new / path.name)


def _link(source: Any, target: Any) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a disk without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _replace_folder(folder: Path, target: Path) -> None:
    """Give `folder` the name `target`; a folder of that name moves into the working folder."""
    replaced = folder.parent / REPLACED
    while True:
        try:
            folder.rename(target)
            return
        except NotADirectoryError:
            raise FileExistsError(
                f"{target} is a file. Expected a folder, or a name that is not in use."
            ) from None
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        # try again if another process replaces or removes it at the same time
        with contextlib.suppress(FileNotFoundError):
            if _exchange(folder, target):
                return
            shutil.rmtree(replaced, ignore_errors=True)  # of an attempt that another process undid
            replaced.mkdir()
            target.rename(replaced / target.name)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names in one step; return False if the system or the disk cannot."""
    rename = _renameat2()
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    if rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(other))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Return the C library's function of that name; None if there is none."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON; the file appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """Convert values that JSON does not know: numpy numbers and arrays, and paths."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def fingerprint(*parts: Any) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of settings (JSON) and arrays, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            # as bytes: bfloat16, for example, offers no buffer
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=_plain).encode())
    return digest.hexdigest()[:16]
