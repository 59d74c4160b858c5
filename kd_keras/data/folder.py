"""Read a folder of images: a folder per class, or `train/<class>/`, `test/<class>/` and so on."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd_keras.data import images, looking
from kd_keras.data import task as tasks
from kd_keras.data.listing import NAMES, Listing, Options, as_task
from kd_keras.data.task import Split, Task
from kd_keras.utils.checks import unknown
from kd_keras.utils.files import fingerprint

LAYOUT = (
    "Expected: one folder per class that holds its images "
    f"({', '.join(images.SUFFIXES)}), or such folders in train/, test/ and validation/."
)
MEND = "more images"
ALL_NAMES = {name for names in NAMES.values() for name in names}


def load(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    test_share: float = 0.2,
    channels: int | None = None,
    metric: str = "accuracy",
) -> Task:
    """Load the task of a folder of images. Its splits name their files; no pixels are in memory.

    The folder holds a folder per class, or a folder per partition, which holds one per class. The
    partitions may have any of the names in `NAMES`, in upper or lower case; validation and test are
    cut from train if they are missing. Hidden files and folders (`.DS_Store`) and `__MACOSX` are
    ignored.

    Args:
        data_dir: the folder.
        image_size, seed, validation_share, test_share, channels, metric: as in `listing.Options`.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if an argument is out of range, two folders mean the same partition, a folder
            means none, or the folder has faults. One error counts all unknown or empty classes,
            stray files and unreadable images, and lists the first ten.
    """
    options = Options(
        image_size=image_size,
        channels=channels,
        metric=metric,
        seed=seed,
        validation_share=validation_share,
        test_share=test_share,
    )
    return as_task(read(data_dir), options, mend=MEND)


def read(data_dir: str | os.PathLike[str] | None) -> Listing:
    """Return the listing of a folder of images; what is wrong with its tree is among its faults.

    Raises:
        FileNotFoundError, ValueError: as `load`, for the folder itself and its partitions.
    """
    if data_dir is None:
        raise FileNotFoundError(f"`data_dir` must name a folder. Received: None. {LAYOUT}")
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder data_dir={str(data_dir)!r}. {LAYOUT}")
    parts = _parts(root)
    classes = _class_names(parts.get("train", root))
    faults: list[str] = []
    found = {part: _scan(folder, classes, faults) for part, folder in parts.items()}
    if not parts:
        found = {"train": _scan(root, classes, faults)}
    files = [path for each in found.values() for path, _ in each]
    return Listing(
        name=root.resolve().name,
        labels=np.array([name for each in found.values() for _, name in each], dtype=object),
        files=tuple(files),
        parts=np.repeat(list(found), [len(each) for each in found.values()]) if parts else None,
        root=root,
        faults=tuple(faults),
    )


def unlabelled(
    data_dir: str | os.PathLike[str], image_shape: tuple[int, int, int]
) -> tuple[Split, str]:
    """Return all images of a folder, at any depth, as a split without labels; and its fingerprint.

    Hidden files, everything in hidden folders, and files without an image suffix are ignored.

    Args:
        data_dir: the folder.
        image_shape: `(height, width, channels)`, to which the images are resized when read.

    Raises:
        FileNotFoundError: if there is no such folder.
        PermissionError: if a folder in it may not be read.
        ValueError: if it holds no image, or images that cannot be read.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {str(root)!r} of unlabelled images.")
    files = [path for path in sorted(images.all_below(root)) if _is_image(path)]
    if not files:
        raise ValueError(f"{root} holds no image ({', '.join(images.SUFFIXES)}).")
    seen = looking.look(files)
    images.refuse(root, looking.faults(seen))
    split = tasks.unlabelled(image_shape, files=tuple(files))
    return split, fingerprint("unlabelled", *looking.as_read(seen, image_shape[:2]), image_shape)


def _parts(root: Path) -> dict[str, Path]:
    """Return the folders of the partitions; none if the folder holds its classes itself."""
    folders = [path for path in images.entries(root) if path.is_dir()]
    parts: dict[str, Path] = {}
    for part, names in NAMES.items():
        found = [path for path in folders if path.name.lower() in names]
        if len(found) > 1:
            both = " and ".join(f"{path.name}/" for path in found)
            raise ValueError(f"{root} holds {both}, both of which mean {part}; keep one of them.")
        if found:
            parts[part] = found[0]
    if not parts:
        return {}
    if "train" not in parts:
        raise FileNotFoundError(f"There is no folder train/ in {root}. {LAYOUT}")
    strange = [path for path in folders if path not in parts.values()]
    images.refuse(
        root,
        [
            f"{images.shown(path)}: {unknown('partition', path.name, sum(NAMES.values(), ()))} "
            "Rename it, or move it elsewhere"
            for path in strange
        ],
    )
    return parts


def _class_names(train: Path) -> tuple[str, ...]:
    classes = tuple(path.name for path in images.entries(train) if path.is_dir())
    if len(classes) < 2:
        raise ValueError(
            f"{train} must hold a folder for each of at least two classes. "
            f"Received: {', '.join(map(images.shown, classes)) or 'none'}. {LAYOUT}"
        )
    return classes


def _scan(folder: Path, classes: Sequence[str], faults: list[str]) -> list[tuple[Path, str]]:
    """List the images of one partition with their classes; add the tree's faults to `faults`."""
    for entry in images.entries(folder):
        if entry.is_dir():
            if entry.name not in classes:
                name = images.shown(entry.name)
                faults.append(f"{images.shown(entry)}: {unknown('class', name, classes)}")
        elif _is_image(entry) or folder.name.lower() in ALL_NAMES:
            where = images.shown(entry)
            faults.append(f"{where}: a stray file; images belong in the folder of their class")
    found: list[tuple[Path, str]] = []
    for name in classes:
        entries = images.entries(folder / name) if (folder / name).is_dir() else []
        pictures = [path for path in entries if _is_image(path)]
        found += [(path, name) for path in pictures]
        faults += [
            f"{images.shown(path)}: not a file with an image suffix; move it elsewhere"
            for path in entries
            if not _is_image(path)
        ]
        if not pictures:
            faults.append(f"{folder / name}: the class has no images")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and path.is_file()
