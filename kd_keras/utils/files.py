"""Files that appear whole or not at all, and fingerprints made of content.

What is being written lies beside its target, in a working folder named `.kd_keras.NAME.XXXXXXXX`,
which stays locked for as long as its process lives. A kill leaves such a folder behind, and the
next writing under that name removes it. Nothing that is named otherwise is ever removed.
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

MARK = ".kd_keras."  # how the name of every working folder begins
LOCK = ".lock"  # inside it
REPLACED = "replaced"  # inside it: what had the target's name before
GONE = ".gone"  # what its name ends with while it is removed
LONGEST = 200  # bytes of a target's name that its working folder repeats; the system allows 255
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
TAKEN = {errno.ENOTEMPTY, errno.EEXIST}


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str], *, ours: Collection[str] | None = None
) -> Iterator[Path]:
    """A temporary folder that takes the name `path` when the block ends well.

    It lies beside `path`, so that the renaming stays on one disk, and is on the disk itself before
    it is renamed. A folder that stood there before is replaced; if the block raises, it is left as
    it was. Linux exchanges the two in one step. Where that cannot be had, a kill between two
    renamings leaves nothing under the name, and the next writing under it, or `clear`, first brings
    back what was there. Of several that write at once, the last one wins.

    Args:
        path: the folder; through a symbolic link, the one it leads to.
        ours: patterns of the names that belong to what is replaced. Entries of other names, which
            somebody else has put there, are found in the new folder too. By default all are ours.

    Raises:
        FileExistsError: `path` is a file.
        OSError: it cannot be written; the error names `path`.

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
    """A temporary path, with the name of `path`, that is moved there when the block ends well.

    The file is on the disk itself before it gets its place, so that a loss of power leaves the
    old one or the new one too.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    target = _real(path)
    with naming(target), _working_folder(target) as working:
        yield working / target.name
        _sync(working / target.name)
        os.replace(working / target.name, target)
        _sync(target.parent)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """A block that writes `path`: an error that says the disk is full names it.

    Libraries that write files say this each in their own way, most of them without a name.

    Raises:
        OSError: with the number of the system's error.
    """
    try:
        yield
    except Exception as error:
        code = _full(error)
        if code is None and type(error) is OSError and error.errno is None:  # numpy's, for one
            raise OSError(f"{path} cannot be written ({error}). Is the disk full?") from error
        if code is None:
            raise
        message = f"{os.strerror(code)} while this was written; make room and try again"
        raise OSError(code, message, os.fspath(path)) from error


def check_room(path: str | os.PathLike[str], size: int) -> None:
    """Refuse to begin a file that the disk has no room for.

    Args:
        path: of the file; its folder is there.
        size: bytes.

    Raises:
        OSError: it has not.
    """
    if shutil.disk_usage(Path(path).parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))


def _full(error: Exception) -> int | None:
    """The number of the system's error, where one says that no more can be written."""
    if isinstance(error, OSError) and error.errno in FULL:
        return error.errno
    # HDF5 and TensorFlow say it in words
    return next((code for code in sorted(FULL) if os.strerror(code) in str(error)), None)


def clear(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove the working folders in `folder` that killed processes have left there.

    Args:
        folder: where they may lie.
        name: only those of this target.
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
            shutil.rmtree(path, ignore_errors=True)  # others may be at it too
            continue
        with _held(path) as held:
            if held:
                _bring_back(path)
                _remove(path)


def _remove(working: Path) -> None:
    """Remove a working folder whose lock is held.

    It loses its name together with the lock in it: nobody can make a new lock in its remains and
    take them for a folder that is whole.
    """
    gone = working.with_name(working.name + GONE)
    with contextlib.suppress(FileNotFoundError):  # somebody has removed it by hand
        working.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def discard(paths: Iterable[Path]) -> None:
    """Remove files and folders of one folder; they lose their names first, one after the other.

    A kill leaves no half of one under its name, and what it does leave, `clear` removes.
    """
    found = [path for path in paths if path.exists() or path.is_symlink()]
    if found:
        with _working_folder(found[0].parent / "discarded") as working:
            for number, path in enumerate(found):
                path.rename(working / str(number))


def _bring_back(working: Path) -> None:
    """Give a replaced folder its name again, where a kill came before its successor had it."""
    for path in (working / REPLACED).glob("*"):
        target = working.parent / path.name
        try:
            if not target.exists():
                path.rename(target)
        except OSError as error:
            if error.errno not in TAKEN:  # it has come into being meanwhile
                raise


@contextlib.contextmanager
def _working_folder(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    clear(target.parent, target.name)
    while True:
        prefix = f"{MARK}{_stem(target.name)}."
        working = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
        with _held(working) as held:
            if not held:  # another process has found it unlocked, and removes it
                continue
            try:
                yield working
            finally:
                _remove(working)
        return


@contextlib.contextmanager
def _held(working: Path) -> Iterator[bool]:
    """Hold the lock of a working folder if that can be had at once; says whether it is held.

    Nothing is made but the lock file, while `filelock` would make the folder anew that another
    process has just removed.
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
    """Whether an open file still has this name: whoever had its lock may have removed it."""
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
    """Have the system write a file, or a folder's list of names, to the disk itself."""
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_ours(name: str, patterns: Collection[str]) -> bool:
    """Whether a name fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _bring_along(old: Path, new: Path, ours: Collection[str]) -> None:
    """Let what is not ours in a folder be in its successor too: the files themselves, no copies.

    It is in both until the old one is removed: a kill at any moment loses none of it.
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
    except OSError:  # a disk that knows no links
        shutil.copy2(source, target, follow_symlinks=False)


def _replace_folder(folder: Path, target: Path) -> None:
    """Give `folder` the name `target`; what had it before goes into the working folder."""
    replaced = folder.parent / REPLACED
    while True:
        try:
            folder.rename(target)
            return
        except NotADirectoryError:
            raise FileExistsError(
                f"{target} is a file. Expected a folder, or a free name to write one under."
            ) from None
        except OSError as error:
            if error.errno not in TAKEN:
                raise
        # another process may replace it, or take it away, at the same time: then once more
        with contextlib.suppress(FileNotFoundError):
            if _exchange(folder, target):
                return
            shutil.rmtree(replaced, ignore_errors=True)  # of a try that another process has undone
            replaced.mkdir()
            target.rename(replaced / target.name)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders' names in one step; False where the system or the disk cannot."""
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
    """The C library's function of that name; None where there is none."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy numbers and arrays, and paths."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON: {value!r}")


def fingerprint(*parts: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 over settings (JSON) and arrays, in order."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            # as bytes: bfloat16, for one, offers no buffer
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=_plain).encode())
    return digest.hexdigest()[:16]
