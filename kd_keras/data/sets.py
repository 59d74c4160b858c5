"""Read image classification sets of TensorFlow Datasets and of Hugging Face `datasets`.

The encoded pictures are copied once into the user's cache folder, as files that a table lists, so
that everything that holds for a user's own files holds for them too.
"""

import csv
import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kd_keras.data import table
from kd_keras.data.listing import Listing, part_of
from kd_keras.utils.checks import unknown
from kd_keras.utils.files import default_directory, fingerprint, whole_folder

log = logging.getLogger(__name__)

COPIES = "copied-sets"  # folder of the copied pictures, in the user's cache folder
TABLE = "table.csv"
# the first bytes of an encoded picture, and the suffix of its file
SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"GIF8": ".gif",
            b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}  # fmt: skip


class Example(NamedTuple):
    """An example of a set: its split, its picture as encoded bytes, and the name of its class."""

    part: str
    picture: bytes
    label: str


def from_tfds(builder: Any, columns: dict[str, Any], data_dir: Any = None) -> Listing:
    """Return the listing of a set of TensorFlow Datasets, prepared if that was not done yet.

    Args:
        builder: a name, such as `"cats_vs_dogs"` or `"mnist:3.0.1"`, or a builder.
        columns: the features that hold the image and the label, by role, if given. If not, they are
            the set's supervised keys, or its only image and its only class label.
        data_dir: the folder of prepared sets; if not given, `TFDS_DATA_DIR`, or the default folder
            of TFDS.

    Raises:
        ValueError: for an unknown set, or one without an image and a class label.
        FileNotFoundError: if the set is not prepared, and cannot be.
    """
    import tensorflow_datasets as tfds

    builder = _builder(tfds, builder, data_dir) if isinstance(builder, str) else builder
    image, label = _features(tfds, builder, columns)
    parts = _known_parts(builder.info.splits, builder.info.full_name)

    def examples() -> Iterator[Example]:
        names = builder.info.features[label].names
        for split, part in parts.items():
            raw = builder.as_dataset(split=split, decoders={image: tfds.decode.SkipDecoding()})
            for example in tfds.as_numpy(raw):
                yield Example(part, example[image], names[int(example[label])])

    files = sorted(Path(builder.data_dir).rglob("*")) if Path(builder.data_dir).is_dir() else []
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = fingerprint("tfds", builder.info.full_name, str(builder.data_dir), stamps, image, label)
    shape = builder.info.features[image].shape
    channels = 1 if shape and shape[-1] == 1 else 3
    return _copied(builder.info.name, key, examples, channels, given=len(parts) > 1)


def _builder(tfds: Any, name: str, data_dir: Any) -> Any:
    try:
        builder = tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        base = name.partition(":")[0].partition("/")[0]
        known = unknown("set of TensorFlow Datasets", base, tfds.list_builders())
        hint = known.partition(" Known:")[0]  # there are over a thousand
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{hint} {reason}") from error
    if not builder.is_prepared():
        _prepare(builder, data_dir)
    return builder


def _prepare(builder: Any, data_dir: Any) -> None:
    """Let TFDS download and prepare a set. Its errors of many kinds become one."""
    log.info("%s is downloaded and prepared in %s.", builder.info.full_name, builder.data_dir)
    try:
        builder.download_and_prepare()
    except Exception as error:
        where = "another --data-dir" if data_dir is not None else "--data-dir or TFDS_DATA_DIR"
        raise FileNotFoundError(
            f"{builder.info.full_name} is not prepared in {builder.data_dir}, and preparing it "
            f"failed ({type(error).__name__}: {str(error).strip().splitlines()[0]}). Prepare it on "
            f"a machine with network access, copy its folder, and name the place with {where}."
        ) from error


def _features(tfds: Any, builder: Any, columns: dict[str, Any]) -> tuple[str, str]:
    """Return the names of the features that hold the image and the label."""
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    features = dict(builder.info.features.items())
    supervised = builder.info.supervised_keys or ()
    found: dict[str, str] = {}
    for role, kind in kinds.items():
        fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
        likely = [name for name in supervised if name in fitting] or fitting
        name = columns.get(role) or (likely[0] if len(likely) == 1 else None)
        if name is None or name not in fitting:
            raise ValueError(
                f"{builder.info.full_name} must have a feature that is the {role} "
                f"({kind.__name__}). Name it: {role}=FEATURE (--task-options {role}=FEATURE). It "
                f"has: {', '.join(f'{n} ({type(f).__name__})' for n, f in features.items())}."
            )
        found[role] = name
    return found["image"], found["label"]


def _known_parts(splits: Any, of: str) -> dict[str, str]:
    """Return the partition that each split means; splits of other meanings are left out."""
    parts = {name: part_of(name) for name in splits}
    other = [name for name, part in parts.items() if part is None]
    if other:
        log.warning(
            "%s: the splits %s mean neither train, validation nor test, and are left out.",
            of,
            ", ".join(other),
        )
    known = {name: part for name, part in parts.items() if part is not None}
    if not known:
        raise ValueError(f"{of} has no split for training. It has: {', '.join(splits)}.")
    return known


def from_hugging_face(given: Any, columns: dict[str, Any]) -> Listing:
    """Return the listing of a data set of Hugging Face `datasets`.

    Args:
        given: the path of a set on disk (`save_to_disk`), the name of one on the hub, or a
            `Dataset` or `DatasetDict`.
        columns: the columns that hold the image and the label, by role, if given. If not, they are
            its only image and its only class label.

    Raises:
        ValueError: if `datasets` is not installed, or the set has no image and no class label.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            "Data sets of Hugging Face need the package `datasets`: "
            'pip install "kd_keras[hf]", or pip install datasets.'
        ) from error
    sets = _opened(datasets, given) if isinstance(given, (str, os.PathLike)) else given
    if isinstance(sets, datasets.Dataset):
        sets = {"train": sets}
    name = Path(given).name if isinstance(given, (str, os.PathLike)) else "hf"
    features = next(iter(sets.values())).features
    kinds = {"image": datasets.Image, "label": datasets.ClassLabel}
    image, label = (_column(features, role, kind, columns) for role, kind in kinds.items())
    parts = _known_parts(sets, name)

    def examples() -> Iterator[Example]:
        names = features[label].names
        for split, part in parts.items():
            raw = sets[split].cast_column(image, datasets.Image(decode=False))
            for example in raw:
                found = example[image]
                picture = found["bytes"] or Path(found["path"]).read_bytes()
                yield Example(part, picture, names[example[label]])

    key = fingerprint("hf", _content(examples()))
    return _copied(name, key, examples, 3, given=len(parts) > 1)


def _content(examples: Iterator[Example]) -> str:
    """Return a digest of all examples, in their order."""
    digest = hashlib.sha256()
    for part, picture, label in examples:
        digest.update(f"{part} {label} {len(picture)} ".encode() + picture)
    return digest.hexdigest()


def _opened(datasets: Any, path: str | os.PathLike[str]) -> Any:
    if not Path(path).exists():
        return datasets.load_dataset(os.fspath(path))
    try:
        return datasets.load_from_disk(os.fspath(path))
    except FileNotFoundError:
        return datasets.load_dataset(os.fspath(path))


def _column(features: Any, role: str, kind: Any, columns: dict[str, Any]) -> str:
    fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
    name = columns.get(role) or (fitting[0] if len(fitting) == 1 else None)
    if name in fitting:
        return str(name)
    raise ValueError(
        f"The data set must have a column that is the {role} ({kind.__name__}). Name it: "
        f"{role}=COLUMN (--task-options {role}=COLUMN). It has: {', '.join(features)}."
    )


def _copied(name: str, key: str, examples: Any, channels: int, *, given: bool) -> Listing:
    """Copy the pictures to files, unless an earlier process did, and return their listing.

    Args:
        name: of the set, for people.
        key: a fingerprint of the set's contents.
        examples: returns an iterator over the examples.
        channels: of the images.
        given: whether the set has several splits.
    """
    folder = default_directory() / COPIES / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        log.info("%s: the pictures are copied to %s.", name, folder)
        with whole_folder(folder) as temporary:
            _write(temporary, examples())
    columns = {"image": "image", "label": "label", "split": "split" if given else None}
    listing = table.read(folder / TABLE, columns)
    return dataclasses.replace(
        listing, name=name, channels=channels, parts=listing.parts if given else None, rows=None
    )


def _write(folder: Path, examples: Iterator[Example]) -> None:
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["image", "label", "split"])
        for number, example in enumerate(examples):
            ending = next(
                (s for mark, s in SUFFIXES.items() if example.picture.startswith(mark)), ""
            )
            name = f"{number:07d}{ending}"
            (folder / name).write_bytes(example.picture)
            lines.writerow([name, example.label, example.part])
