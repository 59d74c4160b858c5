"""Predictions that were stored by any program, as a teacher: found by the pixels of an image."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from kd_keras.data import images, table
from kd_keras.data.task import Split, Task
from kd_keras.teachers.runtimes import Opened
from kd_keras.utils.files import fingerprint

SUFFIXES = (".npy", ".npz", *table.SUFFIXES)
NAMES = "image"  # the array of names in a .npz file


def opened(path: Path, task: Task) -> Opened:
    """Return stored predictions as a function from images to rows.

    A table (CSV, Parquet) names the image of each row, and has a column per class, named after the
    classes or in their order. An `.npz` file holds arrays by tap, such as `logits`, and the names
    in `image`. An `.npy` file, or an `.npz` file without names, has one row per image: of train, or
    of train, validation and test, one after the other, in the task's order.

    Images are named by their file, with or without its folders.

    Raises:
        ValueError: if rows of train are missing, or names are ambiguous.
    """
    rows, names = _read(path, task)
    count = len(next(iter(rows.values())))
    if any(len(each) != count for each in rows.values()):
        raise ValueError(f"{path}: all arrays must have one row per image.")
    places = _by_name(path, names, task) if names is not None else _in_order(path, count, task)
    row_of = {_key(image): place for image, place in places}

    def run(given: np.ndarray) -> Mapping[str, np.ndarray]:
        found = [row_of.get(_key(image)) for image in given]
        if None in found:
            raise ValueError(
                f"{path} holds no predictions of {found.count(None)} of {len(found)} images: they "
                "are augmented, resized otherwise, or not listed."
            )
        chosen = np.array(found, int)
        return {tap: each[chosen] for tap, each in rows.items()}

    digest = fingerprint(list(rows), *rows.values(), sorted(row_of.items()))
    complete = all(
        _key(image) in row_of
        for split in (task.validation, task.test)
        for image in images.pixels_of(split)
    )
    return Opened(run, digest, task.image_shape[:2], raw=True, complete=complete)


def _key(image: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest()


def _read(path: Path, task: Task) -> tuple[dict[str, np.ndarray], list[str] | None]:
    """Return the rows by tap, and the name of each row's image, if the file has them."""
    if path.suffix == ".npy":
        return {"logits": _numbers(path, np.load(path, allow_pickle=False))}, None
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        names = found.pop(NAMES, None)
        if not found:
            raise ValueError(f"{path} holds no predictions. Expected an array 'logits'.")
        rows = {tap: _numbers(path, values) for tap, values in found.items()}
        return rows, None if names is None else [str(name) for name in names]
    frame = table.frame_of(path)
    column = next((c for c in frame.columns if str(c).strip().lower() in table.IMAGE), None)
    if column is None:
        raise ValueError(f"{path} has no column that names the image: {', '.join(table.IMAGE)}.")
    others = [str(c) for c in frame.columns if c != column]
    classes = list(task.class_names)
    chosen = classes if set(classes) <= set(others) else others
    if len(chosen) != len(classes):
        raise ValueError(
            f"{path} must have one column per class: {', '.join(classes)}. It has: "
            f"{', '.join(others)}."
        )
    rows = {"logits": _numbers(path, frame[chosen].to_numpy())}
    return rows, [str(name) for name in frame[column]]


def _numbers(path: Path, values: np.ndarray) -> np.ndarray:
    try:
        rows = np.asarray(values).astype("float32")
    except ValueError as error:
        raise ValueError(f"{path} must hold numbers: {error}") from error
    if rows.ndim < 2 or not np.isfinite(rows).all():
        raise ValueError(f"{path} must hold one row of finite numbers per image.")
    return rows


def _splits(task: Task) -> Iterator[Split]:
    yield from (task.train, task.validation, task.test)


def _in_order(path: Path, count: int, task: Task) -> Iterator[tuple[np.ndarray, int]]:
    sizes = [len(split) for split in _splits(task)]
    if count not in (sizes[0], sum(sizes)):
        raise ValueError(
            f"{path} has {count} rows. Expected one per image of train, {sizes[0]}, or of train, "
            f"validation and test, {sum(sizes)}. Predictions with names (.npz with {NAMES!r}, CSV, "
            "Parquet) may have any order."
        )
    chosen = [task.train] if count == sizes[0] else list(_splits(task))
    place = 0
    for split in chosen:
        for image in images.pixels_of(split):
            yield image, place
            place += 1


def _by_name(path: Path, names: list[str], task: Task) -> Iterator[tuple[np.ndarray, int]]:
    whole = {name.replace("\\", "/"): row for row, name in enumerate(names)}
    short: dict[str, int | None] = {}
    for name, row in whole.items():
        last = name.rpartition("/")[2]
        short[last] = None if last in short else row  # two images of one name: not told apart
    missing: list[str] = []
    for split in _splits(task):
        if split.names is None:
            raise ValueError(
                f"{path} names images, but those of the task {task.name!r} have no names. Store "
                "predictions in the task's order, in a .npy file."
            )
        for name, image in zip(split.names, images.pixels_of(split), strict=True):
            place = whole.get(name, short.get(name.rpartition("/")[2]))
            if place is not None:
                yield image, place
            elif split is task.train:
                missing.append(name)
    if missing:
        raise ValueError(
            f"{path} holds no predictions of {len(missing)} of {len(task.train)} training images, "
            f"the first of them {missing[0]!r}."
        )
