"""A user's own images: `train/<class>/*.png` and the like, `test/<class>/...`."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd_keras.checks import unknown
from kd_keras.data import images
from kd_keras.data import task as tasks
from kd_keras.data.task import Split, Task, cut_validation
from kd_keras.files import fingerprint

METRICS = ("accuracy", "auc")
LAYOUT = (
    "Expected: train/<class>/ and test/<class>/ with one folder a class that holds its images "
    f"({', '.join(images.SUFFIXES)}), and optionally validation/<class>/."
)

Listing = list[tuple[Path, int]]  # a file and its class number


def load(
    data_dir: str | os.PathLike[str] | None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    channels: int = 3,
    metric: str = "accuracy",
) -> Task:
    """The task of a folder of images. Its splits name their files; nothing is kept in memory.

    The classes are the sorted names of the folders in `train`. The validation split is the folder
    `validation` (or `val`); where there is none, it is cut from train, stratified, by the seed.
    Hidden files (`.DS_Store`) are passed over.

    Args:
        data_dir: the folder that holds `train` and `test`.
        image_size: height and width of the images as the models get them; None demands that all
            images have one size and takes that.
        seed: of the validation cut.
        validation_share: of the training images, above 0 and below 1; of no effect where there
            is a validation folder.
        channels: 3, or 1 for grey images.
        metric: what the best epoch is chosen by, `"accuracy"` or `"auc"`.

    Raises:
        FileNotFoundError: the folder, its `train` or its `test` is not there.
        ValueError: an argument is out of range; or the folder has faults: one error counts all
            unknown or empty classes, stray files, unreadable images and images of a different
            size, and lists the first ten.
    """
    side = images.whole_size(image_size)
    images.proper_share(validation_share)
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels!r}")
    if metric not in METRICS:
        raise ValueError(unknown("metric", metric, METRICS))

    parts = _parts(data_dir)
    classes = _class_names(parts["train"])
    faults: list[str] = []
    listings = {part: _scan(folder, classes, faults) for part, folder in parts.items()}
    files = [path for listing in listings.values() for path, _ in listing]
    size = (side, side) if side else _common_size(files, faults)
    faults += images.check_files((None, path) for path in files)
    images.refuse(data_dir, faults)

    shape = (*size, channels)
    splits = {part: _split(listing, shape) for part, listing in listings.items()}
    if "validation" not in splits:
        splits["train"], splits["validation"] = _cut(splits["train"], validation_share, seed)
    names = [path.relative_to(Path(str(data_dir))).as_posix() for path in files]
    return Task(
        name="folder",
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        class_names=classes,
        metric=metric,
        fingerprint=fingerprint(
            "folder", names, images.digests(files), [shape, seed, validation_share]
        ),
    )


def unlabelled(
    data_dir: str | os.PathLike[str], image_shape: tuple[int, int, int]
) -> tuple[Split, str]:
    """All images of a folder, at any depth, as a split without labels; and its fingerprint.

    Hidden files, and files that are no image by their ending, are passed over.

    Args:
        data_dir: the folder.
        image_shape: `(height, width, channels)`, to which they are resized when they are read.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no image, or images that cannot be read.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {str(root)!r} of unlabelled images.")
    files = [path for path in sorted(root.rglob("*")) if _is_image(path)]
    files = [path for path in files if not path.name.startswith(".")]
    if not files:
        raise ValueError(f"{root} holds no image ({', '.join(images.SUFFIXES)}).")
    images.refuse(root, images.check_files((None, path) for path in files))
    split = tasks.unlabelled(image_shape, files=tuple(files))
    return split, fingerprint("unlabelled", images.digests(files), image_shape)


def _cut(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    try:
        return cut_validation(train, share=share, seed=seed)
    except ValueError as error:
        raise ValueError(
            f"validation_share={share} cannot be cut, stratified, from {len(train)} training "
            f"images ({error}) Give a larger share, more images or a folder validation/."
        ) from error


def _parts(data_dir: str | os.PathLike[str] | None) -> dict[str, Path]:
    """The folders of train and test, and of validation where there is one."""
    if data_dir is None:
        raise FileNotFoundError(f"`data_dir` must name a folder. Received: None. {LAYOUT}")
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(f"There is no folder data_dir={str(data_dir)!r}. {LAYOUT}")
    root = Path(data_dir)
    parts = {part: root / part for part in ("train", "test")}
    for part, folder in parts.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"There is no folder {part}/ in {root}. {LAYOUT}")
    validation = [root / name for name in ("validation", "val") if (root / name).is_dir()]
    if len(validation) > 1:
        raise ValueError(f"{root} holds validation/ and val/; keep one of them.")
    return {**parts, "validation": validation[0]} if validation else parts


def _class_names(train: Path) -> tuple[str, ...]:
    classes = tuple(path.name for path in _entries(train) if path.is_dir())
    if len(classes) < 2:
        raise ValueError(
            f"{train} must hold a folder for each of at least two classes. "
            f"Received: {', '.join(classes) or 'none'}. {LAYOUT}"
        )
    return classes


def _scan(folder: Path, classes: Sequence[str], faults: list[str]) -> Listing:
    """The images of one partition by class; adds what is wrong with the tree to `faults`."""
    for entry in _entries(folder):
        if not entry.is_dir():
            faults.append(f"{entry}: a stray file; images lie in the folder of their class")
        elif entry.name not in classes:
            faults.append(f"{entry}: {unknown('class', entry.name, classes)}")
    listing: Listing = []
    for number, name in enumerate(classes):
        entries = _entries(folder / name) if (folder / name).is_dir() else []
        found = [path for path in entries if _is_image(path)]
        listing += [(path, number) for path in found]
        faults += [
            f"{path}: neither an image by its ending nor wanted here"
            for path in entries
            if not _is_image(path)
        ]
        if not found:
            faults.append(f"{folder / name}: the class has no images")
    return listing


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and path.is_file()


def _common_size(files: Sequence[Path], faults: list[str]) -> tuple[int, int]:
    """The size of all readable images; a fault that shows an example of each if they differ."""
    found = list(zip(images.sizes(files), files, strict=True))
    counts = collections.Counter(size for size, _ in found if size).most_common()
    if len(counts) > 1:
        example = dict(reversed(found))
        shown = ", ".join(f"{n} of {h}x{w} ({example[h, w]})" for (h, w), n in counts[:3])
        faults.append(
            f"the images have {len(counts)} sizes: {shown}{', ...' if len(counts) > 3 else ''}; "
            "pass `image_size` (--image-size) to resize them"
        )
    return counts[0][0] if counts else (0, 0)  # without a readable image the faults speak


def _split(listing: Listing, shape: tuple[int, int, int]) -> Split:
    return Split(
        labels=np.array([number for _, number in listing], np.int32),
        image_shape=shape,
        files=tuple(path for path, _ in listing),
    )
