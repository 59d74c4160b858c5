"""Load a user's own images, in `train/<class>/*.png` and the like, and `test/<class>/...`."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd_keras.data import images, looking, repeats
from kd_keras.data import task as tasks
from kd_keras.data.task import Split, Task, cut_validation
from kd_keras.evaluation import metrics
from kd_keras.utils.checks import lookup, unknown
from kd_keras.utils.files import fingerprint

# folder names of the partitions, in upper or lower case
NAMES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}
LAYOUT = (
    "Expected: train/<class>/ and test/<class>/ with one folder per class that holds its images "
    f"({', '.join(images.SUFFIXES)}), and optionally validation/<class>/."
)

Listing = list[tuple[Path, int]]  # a file and its class number


def load(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    validation_share: float = 0.1,
    channels: int = 3,
    metric: str = "accuracy",
) -> Task:
    """Load the task of a folder of images. Its splits name their files; no pixels are in memory.

    The classes are the sorted names of the folders in `train`. The validation split is the folder
    `validation`; if there is none, it is cut from train by the seed, stratified by class. The
    folders may have any of the names in `NAMES`, in upper or lower case. Hidden files and folders
    (`.DS_Store`) and `__MACOSX` are ignored.

    Args:
        data_dir: the folder that holds `train`, `test` and possibly `validation`, and no other
            folder.
        image_size: height and width of the images as the models get them; None uses the size of
            the images, which must all be the same.
        seed: the seed of the validation cut.
        validation_share: share of the training images, above 0 and below 1; it has no effect if
            there is a validation folder.
        channels: 3, or 1 for grey images.
        metric: the metric that chooses the best epoch: one of `evaluation.metrics.choices()`.

    Raises:
        FileNotFoundError: if the folder, its `train` or its `test` does not exist.
        ValueError: if an argument is out of range, two folders mean the same partition, a folder
            means none, or the folder has faults. One error counts all unknown or empty classes,
            stray files, unreadable images and images of a different size, and lists the first
            ten.
    """
    side = images.whole_size(image_size)
    images.proper_share(validation_share)
    lookup("metric", dict.fromkeys(metrics.choices()), metric)
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels!r}")

    parts = _parts(data_dir)
    classes = _class_names(parts["train"])
    faults: list[str] = []
    listings = {part: _scan(folder, classes, faults) for part, folder in parts.items()}
    files = [path for listing in listings.values() for path, _ in listing]
    seen = looking.look(files)
    size = (side, side) if side else _common_size(seen, faults)
    faults += looking.faults(seen)
    images.refuse(Path(str(data_dir)), faults)

    shape = (*size, channels)
    splits = {part: _split(listing, shape) for part, listing in listings.items()}
    if "validation" not in splits:
        splits["train"], splits["validation"] = cut_validation(
            splits["train"],
            share=validation_share,
            seed=seed,
            mend="more images, or a folder validation/",
        )
    splits = {part: splits[part] for part in ("train", "validation", "test")}
    names = [path.relative_to(Path(str(data_dir))).as_posix() for path in files]
    return Task(
        name="folder",
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        class_names=classes,
        metric=metric,
        fingerprint=fingerprint(
            "folder", names, *looking.as_read(seen, size), [shape, seed, validation_share]
        ),
        repeats=repeats.of_files(splits, seen, Path(str(data_dir))),
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


def _parts(data_dir: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Return the folders of train and test, and of validation if there is one."""
    if data_dir is None:
        raise FileNotFoundError(f"`data_dir` must name a folder. Received: None. {LAYOUT}")
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(f"There is no folder data_dir={str(data_dir)!r}. {LAYOUT}")
    root = Path(data_dir)
    folders = [path for path in images.entries(root) if path.is_dir()]
    parts: dict[str, Path] = {}
    for part, names in NAMES.items():
        found = [path for path in folders if path.name.lower() in names]
        if len(found) > 1:
            both = " and ".join(f"{path.name}/" for path in found)
            raise ValueError(f"{root} holds {both}, both of which mean {part}; keep one of them.")
        if found:
            parts[part] = found[0]
        elif part != "validation":
            raise FileNotFoundError(f"There is no folder {part}/ in {root}. {LAYOUT}")
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
    images.refuse(
        train,
        [
            f"{images.shown(train / name)}: the name of a class must be UTF-8; rename the folder"
            for name in classes
            if images.shown(name) != name  # the name is written into results, reports and models
        ],
    )
    return classes


def _scan(folder: Path, classes: Sequence[str], faults: list[str]) -> Listing:
    """List the images of one partition by class; add what is wrong with the tree to `faults`."""
    for entry in images.entries(folder):
        if not entry.is_dir():
            where = images.shown(entry)
            faults.append(f"{where}: a stray file; images belong in the folder of their class")
        elif entry.name not in classes:
            name = images.shown(entry.name)
            faults.append(f"{images.shown(entry)}: {unknown('class', name, classes)}")
    listing: Listing = []
    for number, name in enumerate(classes):
        entries = images.entries(folder / name) if (folder / name).is_dir() else []
        found = [path for path in entries if _is_image(path)]
        listing += [(path, number) for path in found]
        faults += [
            f"{images.shown(path)}: not a file with an image suffix; move it elsewhere"
            for path in entries
            if not _is_image(path)
        ]
        if not found:
            faults.append(f"{folder / name}: the class has no images")
    return listing


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in images.SUFFIXES and path.is_file()


def _common_size(seen: Sequence[looking.Seen], faults: list[str]) -> tuple[int, int]:
    """Return the size of all readable images; if they differ, add a fault that shows examples."""
    counts = collections.Counter(file.size for file in seen if file.size).most_common()
    if len(counts) > 1:
        example = {file.size: images.shown(file.path) for file in reversed(seen)}
        shown = ", ".join(f"{n} of {h}x{w} ({example[h, w]})" for (h, w), n in counts[:3])
        faults.append(
            f"the images have {len(counts)} sizes: {shown}{', ...' if len(counts) > 3 else ''}; "
            "pass `image_size` (--image-size) to resize them"
        )
    return counts[0][0] if counts else (0, 0)  # without a readable image there are other faults


def _split(listing: Listing, shape: tuple[int, int, int]) -> Split:
    return Split(
        labels=np.array([number for _, number in listing], np.int32),
        image_shape=shape,
        files=tuple(path for path, _ in listing),
    )
