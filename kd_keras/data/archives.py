"""Unpack zip archives of images."""

import zipfile
import zlib
from pathlib import Path

from kd_keras.data import images
from kd_keras.utils.files import whole_folder


def _of_a_mac(path: Path) -> bool:
    """Return True for files that macOS adds to folders and archives."""
    return any(part == "__MACOSX" or part.startswith("._") for part in path.parts)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive to a new folder, whole or not at all, unless another process is faster.

    Raises:
        ValueError: if the archive is damaged, or a member's path leaves the folder.
        OSError: if the folder cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [name for name in packed.namelist() if not _of_a_mac(Path(name))]
            images.refuse(
                archive,
                [
                    f"member {name!r}: its path points outside the folder"
                    for name in members
                    if _leaves(name)
                ],
            )
            with whole_folder(folder) as temporary:
                packed.extractall(temporary, members)
                if folder.exists():
                    raise FileExistsError(f"{folder} has been created in the meantime")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{archive} is damaged or not an ordinary zip file ({error}); download it again."
        ) from error
    except OSError as error:
        if folder.is_dir():  # another process was faster
            return
        raise OSError(
            f"{archive} cannot be unpacked where it is ({error}). Make {archive.parent} "
            f"writable and free enough space, or unpack the archive to {folder} yourself."
        ) from error


def _leaves(member: str) -> bool:
    parts = member.replace("\\", "/").split("/")
    return parts[0] == "" or ":" in parts[0] or ".." in parts
