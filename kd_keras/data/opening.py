"""Tell apart what the user's data are, and load them: `--data`, `kd_keras.data.load(data=...)`."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from kd_keras.data import archives, folder, images, mhist, sets, table
from kd_keras.data.listing import Listing, Options, as_task
from kd_keras.data.task import Task
from kd_keras.utils.checks import unknown

KINDS = (
    "a folder of images, an archive of one (.zip, .tar), a table (.csv, .parquet), tfds:NAME, or "
    "hf:PATH"
)
COLUMNS = ("image", "label", "split", "weight", "group")
OPTIONS = tuple(field.name for field in dataclasses.fields(Options))


def open_data(data: Any, **options) -> Task:
    """Load the task of data of any kind.

    Args:
        data: a path or a string, which names one of `KINDS`; a pandas frame; a builder of
            TensorFlow Datasets; or a data set of Hugging Face.
        **options: those of `listing.Options`; the columns of `table.from_table`; and `data_dir`,
            the folder of prepared sets (`tfds:`) or of a table's images.

    Raises:
        FileNotFoundError: if there is nothing of that name.
        ValueError: for an unknown option, and for faults of the data.
    """
    for option in options:
        if option not in (*OPTIONS, *COLUMNS, "data_dir"):
            known = (*OPTIONS, *COLUMNS, "data_dir")
            raise ValueError(unknown("option of data:", option, known))
    chosen = {name: options[name] for name in OPTIONS if options.get(name) is not None}
    columns = {name: options.get(name) for name in COLUMNS}
    path = _path(data)
    if path is not None and _is_mhist(path):
        return _load_mhist(path, chosen, columns)
    listing = _listing(data, path, columns, options.get("data_dir"))
    return as_task(listing, Options(**chosen))


def _path(data: Any) -> Path | None:
    """Return the path that the data are in, an archive's contents included; None for others."""
    if not isinstance(data, (str, os.PathLike)) or str(data).startswith(("tfds:", "hf:")):
        return None
    path = archives.unpacked(data) if archives.is_archive(data) else Path(data)
    if not path.exists():
        raise FileNotFoundError(f"There is no {str(data)!r}. `data` names {KINDS}.")
    return path


def _listing(data: Any, path: Path | None, columns: dict[str, Any], data_dir: Any) -> Listing:
    if path is not None:
        name = _name(data)
        if path.is_dir() and (lists := _tables(path)) is None:
            _refuse_columns(columns, "a folder of images")
            return dataclasses.replace(folder.read(path), name=name)
        file = path if path.is_file() else lists
        if file is None or file.suffix.lower() not in table.SUFFIXES:
            raise ValueError(f"{path} is none of these: {KINDS}.")
        return dataclasses.replace(table.read(file, columns, root=data_dir), name=name)
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        return table.read(data, columns, root=data_dir)
    own = {name: columns[name] for name in ("split", "weight", "group")}
    if isinstance(data, str) and data.startswith("tfds:"):
        _refuse_columns(own, "a set of TensorFlow Datasets")
        return sets.from_tfds(data.removeprefix("tfds:"), columns, data_dir)
    if hasattr(data, "as_dataset") and hasattr(data, "info"):
        _refuse_columns(own, "a set of TensorFlow Datasets")
        return sets.from_tfds(data, columns)
    if isinstance(data, str) or hasattr(data, "cast_column"):
        _refuse_columns(own, "a set of Hugging Face")
        return sets.from_hugging_face(
            data.removeprefix("hf:") if isinstance(data, str) else data, columns
        )
    raise ValueError(
        f"`data` must name {KINDS}; or be a pandas frame, a builder of TensorFlow Datasets or a "
        f"data set of Hugging Face. Received: {type(data).__name__}. For arrays there is "
        "`kd_keras.data.from_arrays`."
    )


def _name(data: Any) -> str:
    name = Path(os.path.abspath(data)).name
    for suffix in (*archives.SUFFIXES, *table.SUFFIXES):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return images.shown(name)


def _tables(path: Path) -> Path | None:
    """Return the only table in a folder that has no folders of classes, or None."""
    inside = images.entries(path)
    tables = [each for each in inside if each.suffix.lower() in table.SUFFIXES and each.is_file()]
    folders = [each for each in inside if each.is_dir() and each.name.lower() != "images"]
    return tables[0] if len(tables) == 1 and not folders else None


def _refuse_columns(columns: dict[str, Any], kind: str) -> None:
    given = [name for name, column in columns.items() if column is not None]
    if given:
        raise ValueError(
            f"Only a table has such columns, and the data are {kind}. Received: "
            f"{given[0]}={columns[given[0]]!r}. List the images in a CSV file to name it."
        )


def _is_mhist(path: Path) -> bool:
    """Return whether a folder is a distribution of MHIST, by the header of its annotations."""
    header = path / "annotations.csv"
    if not header.is_file():
        return False
    with header.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    return all(column in first for column in mhist.COLUMNS)


def _load_mhist(path: Path, chosen: dict[str, Any], columns: dict[str, Any]) -> Task:
    _refuse_columns(columns, "MHIST, whose columns are known")
    known = ("image_size", "seed", "validation_share")
    for name, value in chosen.items():
        if name not in known:
            raise ValueError(
                f"The data are MHIST, whose options are {', '.join(known)}; {name} has no effect "
                f"there. Received: {name}={value!r}"
            )
    return mhist.load(path, **chosen)
