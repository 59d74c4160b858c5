"""MHIST: colorectal polyps, hyperplastic (HP) or sessile serrated adenoma (SSA).

The official distribution is a folder with `annotations.csv` and, beside it, `images/` or
`images.zip`. Seven pathologists voted on each of 3,152 images of 224x224 pixels.
"""

import dataclasses
import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data import images, looking, repeats
from kd_keras.data.archives import unpack
from kd_keras.data.splitting import cut_validation
from kd_keras.data.task import Split, Task, balanced_class_weight
from kd_keras.utils.checks import unknown
from kd_keras.utils.files import fingerprint

CLASSES = ("HP", "SSA")
NATIVE_SIZE = 224
ANNOTATORS = 7
OFFICIAL_COUNTS = {"train": {"HP": 1545, "SSA": 630}, "test": {"HP": 617, "SSA": 360}}

NAME = "Image Name"
LABEL = "Majority Vote Label"
VOTES = "Number of Annotators who Selected SSA (Out of 7)"
PARTITION = "Partition"
COLUMNS = (NAME, LABEL, VOTES, PARTITION)

HELP = (
    "MHIST is a data set of 3,152 images of colorectal polyps, available on request from "
    "https://bmirds.github.io/MHIST/. Put its `annotations.csv`, and `images.zip` or the folder "
    "`images/` beside it, into one folder and pass that folder as `data_dir` (--data-dir)."
)


def load(
    data_dir: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
    seed: int = 0,
    validation_share: float = 0.2,
    soft_labels: bool = False,
    vote_weights: bool = False,
) -> Task:
    """Load the MHIST task. Its splits name their files; no pixels are in memory.

    The official partition is kept; validation is cut from train by the seed, stratified by class.
    The class weights are balanced over what remains for training.

    Args:
        data_dir: the folder that holds `annotations.csv`, itself or in exactly one sub-folder.
            `images.zip` is unpacked beside itself the first time.
        image_size: height and width of the images as the models get them; None means 224.
        seed: the seed of the validation cut.
        validation_share: share of the training images, above 0 and below 1.
        soft_labels: give every split the annotators' shares `[1 - votes / 7, votes / 7]` as
            soft labels, float32, shape `(n, 2)`.
        vote_weights: weight every training image by the annotators' agreement,
            `|2 votes - 7| / 7` (1/7 for four against three, 1 if unanimous), scaled to a
            mean of one over the training split. Validation and test have no weights.

    Raises:
        FileNotFoundError: if the annotations or the images are missing; the message says where to
            get them.
        ValueError: if the annotations or the images have faults. One error counts them all and
            lists the first ten with row (line of the file) and image.
        OSError: if `images.zip` cannot be unpacked beside itself.

    Warns:
        UserWarning: if a partition does not have the official number of images of a class.
    """
    side = images.whole_size(image_size) or NATIVE_SIZE
    images.proper_share(validation_share)
    annotations, folder = _find(data_dir)
    table = _read(annotations)
    seen = _check(table, annotations, folder)
    _compare_counts(table, annotations)
    shape = (side, side, 3)
    whole, test = (
        _split(table[table[PARTITION] == part], folder, shape, soft_labels)
        for part in ("train", "test")
    )
    if vote_weights:
        whole = dataclasses.replace(whole, weights=_agreement(table[table[PARTITION] == "train"]))
    train, validation = cut_validation(whole, share=validation_share, seed=seed)
    if train.weights is not None:
        weights = train.weights / train.weights.mean()
        train = dataclasses.replace(train, weights=weights)
        validation = dataclasses.replace(validation, weights=None)
    digests, *decoder = looking.as_read(seen, shape[:2])
    options = [shape, seed, validation_share, soft_labels, vote_weights]
    return Task(
        name="mhist",
        train=train,
        validation=validation,
        test=test,
        class_names=CLASSES,
        metric="auc",
        fingerprint=fingerprint(
            "mhist",
            [looking.digest(annotations), *digests],
            *decoder,
            list(table[NAME]),
            options,
        ),
        class_weight=balanced_class_weight(train.labels, len(CLASSES)),
        repeats=repeats.of_files(
            {"train": train, "validation": validation, "test": test}, seen, folder
        ),
    )


def _split(rows: Any, folder: Path, shape: tuple[int, int, int], soft_labels: bool) -> Split:
    share = rows[VOTES].astype(int).to_numpy() / ANNOTATORS
    return Split(
        labels=rows[LABEL].map(CLASSES.index).to_numpy(np.int32),
        image_shape=shape,
        files=tuple(folder / name for name in rows[NAME]),
        names=tuple(rows[NAME]),
        soft_labels=np.stack([1 - share, share], 1).astype(np.float32) if soft_labels else None,
    )


def _agreement(rows: Any) -> np.ndarray:
    votes = rows[VOTES].astype(int).to_numpy()
    return (np.abs(2 * votes - ANNOTATORS) / ANNOTATORS).astype(np.float32)


def _find(data_dir: str | os.PathLike[str] | None) -> tuple[Path, Path]:
    """Return the annotations and the folder of the images, unpacked if necessary."""
    if data_dir is None:
        raise FileNotFoundError(f"`data_dir` must name a folder. Received: None. {HELP}")
    if not Path(data_dir).is_dir():
        raise FileNotFoundError(f"There is no folder data_dir={str(data_dir)!r}. {HELP}")
    root = Path(data_dir)
    found = [root / "annotations.csv"]
    if not found[0].is_file():
        inside = (path / "annotations.csv" for path in images.entries(root) if path.is_dir())
        found = [path for path in inside if path.is_file()]
    if not found:
        raise FileNotFoundError(f"There is no annotations.csv in {root}. {HELP}")
    if len(found) > 1:
        raise ValueError(
            f"`data_dir` holds several files annotations.csv; pass the folder of the one you mean: "
            f"{', '.join(map(str, found))}"
        )
    return found[0], _image_folder(dict.fromkeys((found[0].parent, root)))


def _image_folder(places: Collection[Path]) -> Path:
    for place in places:
        folder, archive = place / "images", place / "images.zip"
        if archive.is_file() and not folder.exists():
            unpack(archive, folder)
        # Unpacking by hand often nests, as in images/images/.
        below = images.all_below(folder) if folder.is_dir() else ()
        holders = sorted({path.parent for path in below if path.suffix == ".png"})
        if len(holders) > 1:
            raise ValueError(
                f"The PNG images must be in one folder. Received: {len(holders)} folders, "
                f"{', '.join(map(str, holders[:10]))}"
            )
        if holders:
            return holders[0]
    raise FileNotFoundError(
        f"There are no PNG images in {' or '.join(str(place / 'images') for place in places)}, and "
        f"no images.zip to unpack into a new folder of that name. {HELP}"
    )


def _read(annotations: Path) -> Any:
    """Return the table of the four columns, all strings; the index is the line in the file."""
    import pandas as pd

    try:
        table = pd.read_csv(
            annotations,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{annotations} is not a CSV table in UTF-8: {error}") from error
    table.columns = table.columns.str.strip()
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise ValueError(
            f"{annotations} lacks the column{'s' if len(absent) > 1 else ''} "
            f"{', '.join(map(repr, absent))}. It has: {', '.join(map(repr, table.columns))}."
        )
    if not isinstance(table.index, pd.RangeIndex):
        raise ValueError(f"{annotations}: its rows have more fields than its header.")
    table = table[list(COLUMNS)].fillna("").apply(lambda column: column.str.strip())
    table.index += 2  # the header is line 1
    return table[(table != "").any(axis=1)]


def _check(table: Any, annotations: Path, folder: Path) -> list[looking.Seen]:
    """Look at the images of the rows, and return the results.

    Raise one error for all faults of the rows, the partitions and the images.
    """
    faults: list[str] = []
    first: dict[str, int] = {}
    for row in table.itertuples(name=None):
        line, name = row[:2]
        faults += [f"row {line}: {name!r}: {fault}" for fault in _row_faults(*row[1:])]
        if name in first:
            faults.append(f"row {line}: {name!r}: this name is already in row {first[name]}")
        first.setdefault(name, line)
    faults += _partition_faults(table)
    sound = {name: line for name, line in first.items() if not _name_fault(name)}
    seen = looking.look(folder / name for name in sound)
    shape = (NATIVE_SIZE, NATIVE_SIZE)
    faults += looking.faults(seen, rows=list(sound.values()), shape=shape)
    images.refuse(annotations, faults)
    return seen


def _row_faults(name: str, label: str, votes: str, partition: str) -> list[str]:
    faults = [_name_fault(name)]
    if label not in CLASSES:
        faults.append(unknown("label", label, CLASSES))
    if partition not in OFFICIAL_COUNTS:
        faults.append(unknown("partition", partition, OFFICIAL_COUNTS))
    if votes not in map(str, range(ANNOTATORS + 1)):
        faults.append(f"the votes for SSA must be a whole number from 0 to 7. Received: {votes!r}")
    elif label in CLASSES and label != CLASSES[int(votes) > ANNOTATORS / 2]:
        faults.append(f"{votes} of 7 votes for SSA contradict the label {label}")
    return [fault for fault in faults if fault]


def _name_fault(name: str) -> str:
    if not name:
        return "the image name is empty"
    if name in (".", "..") or any(sign in name for sign in "/\\:\0"):
        return "an image must be named by its bare file name, without a path"
    return ""


def _partition_faults(table: Any) -> list[str]:
    faults = []
    for partition in OFFICIAL_COUNTS:
        counts = table[table[PARTITION] == partition][LABEL].value_counts()
        least = 2 if partition == "train" else 1  # validation needs one of each class
        if counts.empty:
            faults.append(f"the partition {partition} is empty")
        else:
            faults += [
                f"the partition {partition} has {counts.get(label, 0)} images of class {label}, "
                f"but needs {least}"
                for label in CLASSES
                if counts.get(label, 0) < least
            ]
    return faults


def _compare_counts(table: Any, annotations: Path) -> None:
    different = []
    for partition, official in OFFICIAL_COUNTS.items():
        labels = list(table[table[PARTITION] == partition][LABEL])
        got = {label: labels.count(label) for label in CLASSES}
        if got != official:
            different.append(f"{partition} has {_counts(got)}, officially {_counts(official)}")
    if different:
        warnings.warn(
            f"{annotations} is not the official MHIST: {'; '.join(different)}.", stacklevel=3
        )


def _counts(counts: dict[str, int]) -> str:
    return " + ".join(f"{count} {label}" for label, count in counts.items())
