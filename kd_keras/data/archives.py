"""Unpack archives of images: zip and tar."""

import hashlib
import os
import tarfile
import zipfile
import zlib
from pathlib import Path

from kd_keras.data import images
from kd_keras.utils.files import default_directory, whole_folder

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNPACKED = "unpacked"  # folder of the unpacked archives, in the user's cache folder


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an archive."""
    return os.fspath(path).lower().endswith(SUFFIXES)


def unpacked(archive: str | os.PathLike[str]) -> Path:
    """Return the folder of an archive's contents, unpacked once into the user's cache folder.

    The folder is named after the contents, so that a changed archive is unpacked again. If all
    contents lie in one folder, that folder is returned.

    Raises:
        FileNotFoundError: if there is no such archive.
        ValueError, OSError: as `unpack`.
    """
    path = Path(archive)
    if not path.is_file():
        raise FileNotFoundError(f"There is no archive {str(path)!r}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = default_directory() / UNPACKED / digest[:32]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unpack(path, folder)
    while len(inside := images.entries(folder)) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive to a new folder, whole or not at all, unless another process is faster.

    Raises:
        ValueError: if the archive is damaged, or a member's path leaves the folder.
        OSError: if the folder cannot be written.
    """
    try:
        with whole_folder(folder) as temporary:
            (_unzip if zipfile.is_zipfile(archive) or _named_zip(archive) else _untar)(
                archive, temporary
            )
            if folder.exists():
                raise FileExistsError(f"{folder} has been created in the meantime")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
        kind = "zip" if _named_zip(archive) else "tar"
        raise ValueError(
            f"{archive} is damaged or not an ordinary {kind} file ({error}); download it again."
        ) from error
    except OSError as error:
        if folder.is_dir():  # another process was faster
            return
        raise OSError(
            f"{archive} cannot be unpacked to {folder} ({error}). Make {folder.parent} "
            f"writable and free enough space, or unpack the archive to {folder} yourself."
        ) from error


def _named_zip(archive: Path) -> bool:
    return archive.suffix.lower() == ".zip"


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        members = [name for name in packed.namelist() if not _of_a_mac(Path(name))]
        _refuse_leaving(archive, members)
        packed.extractall(folder, members)


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        members = [member for member in packed.getmembers() if not _of_a_mac(Path(member.name))]
        _refuse_leaving(archive, [member.name for member in members])
        packed.extractall(folder, members, filter="data")


def _of_a_mac(path: Path) -> bool:
    """Return True for files that macOS adds to folders and archives."""
    return any(part == "__MACOSX" or part.startswith("._") for part in path.parts)


def _refuse_leaving(archive: Path, members: list[str]) -> None:
    images.refuse(
        archive,
        [
            f"member {name!r}: its path points outside the folder"
            for name in members
            if _leaves(name)
        ],
    )


def _leaves(member: str) -> bool:
    parts = member.replace("\\", "/").split("/")
    return parts[0] == "" or ":" in parts[0] or ".." in parts
