"""Read a table that lists images: a CSV or Parquet file, or a pandas frame."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.data.listing import NAMES, Listing, Options, as_task, part_of
from kd_keras.data.task import Task
from kd_keras.utils.checks import unknown

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
# the usual names of columns, in lower case; the first that a table has is taken
IMAGE = ("image", "file", "filename", "file_name", "path", "filepath", "image_path", "image name")
LABEL = ("label", "class", "target", "category", "diagnosis", "class_name")
SPLIT = ("split", "partition", "subset", "set")
WEIGHT = ("weight", "sample_weight")
# columns that name something of which there are often several images
GROUPS = ("patient", "patient_id", "subject", "subject_id", "case", "case_id", "slide", "slide_id",
          "video", "video_id", "group", "donor")  # fmt: skip


def from_table(
    frame: Any,
    *,
    image: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    weight: str | None = None,
    group: str | None = None,
    root: str | os.PathLike[str] | None = None,
    name: str = "table",
    **options,
) -> Task:
    """Load the task that a table lists, one image per row. No pixels are in memory.

    Args:
        frame: a pandas frame, or the path of a CSV, TSV or Parquet file.
        image: the column of the image files; relative paths are relative to `root`.
        label: the column of the classes, names or numbers; or several columns, one per class, that
            hold each example's distribution (or votes) over the classes: soft labels.
        split: the column of the splits, with the names of `listing.NAMES`; validation and test are
            cut from train if they are missing.
        weight: the column of the weights in training.
        group: the column of what must not be cut in two, such as the patient: a split that is cut
            has no group of another one.
        root: the folder of the images. If not given, that of the file, or `images/` in it if the
            first image is there; for a frame, the current folder.
        name: of the data, for people; by default that of the file.
        **options: `image_size`, `channels`, `metric`, `seed`, `validation_share`, `test_share`, as
            in `listing.Options`.

    If a column is not given, it is the first of the usual names that the table has: see `IMAGE`,
    `LABEL`, `SPLIT` and `WEIGHT`. Groups have to be named.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a column that the table lacks, or faults of rows and images. One error
            counts them all and lists the first ten.

    Example:
        >>> import tempfile, numpy as np, pandas as pd
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for i in range(40):
        ...     Image.new("RGB", (8, 8), (5 * i, 0, 0)).save(folder / f"{i}.png")
        >>> frame = pd.DataFrame({"image": [f"{i}.png" for i in range(40)],
        ...                       "label": ["dark", "light"] * 20})
        >>> task = from_table(frame, root=folder, validation_share=0.2)
        >>> task.class_names, len(task.train), len(task.test)
        (('dark', 'light'), 25, 8)
    """
    own = {"image": image, "label": label, "split": split, "weight": weight, "group": group}
    return as_task(read(frame, own, root=root, name=name), Options(**options), mend="more rows")


def read(
    frame: Any,
    columns: Mapping[str, Any],
    *,
    root: str | os.PathLike[str] | None = None,
    name: str = "table",
) -> Listing:
    """Return the listing of a table; arguments and errors as in `from_table`.

    Args:
        frame: a pandas frame, or a path.
        columns: the names of columns by role, or None where they are not given.
        root, name: as in `from_table`.
    """
    if isinstance(frame, (str, os.PathLike)):
        path = Path(frame)
        frame, name = frame_of(path), path.stem
        root = path.parent if root is None else root
    where = Path(root or ".")
    found = _columns(frame, columns, name)
    rows = list(range(2, len(frame) + 2))  # the header is line 1
    faults: list[str] = []
    files = _files(frame[found["image"]], where, rows, faults)
    names, known = _labels(frame, found["label"], name, rows, faults)
    parts = _parts(frame[found["split"]], rows, faults) if found.get("split") else None
    weights = _weights(frame, found.get("weight"), rows, faults)
    groups = _groups(frame, found.get("group"), rows, faults)
    notes = [] if groups is not None or parts is not None else _likely_groups(frame)
    return Listing(
        name=name,
        labels=known,
        files=files,
        class_names=names,
        parts=parts,
        weights=weights,
        groups=groups,
        root=where,
        rows=rows,
        faults=tuple(faults),
        notes=tuple(notes),
    )


def frame_of(path: Path) -> Any:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"There is no table {str(path)!r}.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(
            path,
            sep="\t" if path.suffix.lower() == ".tsv" else ",",
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (ValueError, OSError) as error:  # pandas' and pyarrow's own are of these kinds
        raise ValueError(f"{path} cannot be read as a table: {error}") from error


def _columns(frame: Any, given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the columns by role: those given, and else the usual ones that the table has."""
    if not len(frame):
        raise ValueError(f"The table {name!r} has no rows.")
    have = [str(column) for column in frame.columns]
    found: dict[str, Any] = {role: column for role, column in given.items() if column is not None}
    label = found.get("label")
    if isinstance(label, str) and label not in have and "," in label:
        found["label"] = tuple(label.split(","))
    for role, column in found.items():
        several = [column] if isinstance(column, str) else list(column)
        for one in several:
            if one not in have:
                raise ValueError(f"{role}: " + unknown(f"column of {name!r}:", one, have))
    usual = {"image": IMAGE, "label": LABEL, "split": SPLIT, "weight": WEIGHT}
    by_name = {column.strip().lower(): column for column in reversed(have)}
    for role, names in usual.items():
        match = next((by_name[each] for each in names if each in by_name), None)
        if role not in found and match is not None:
            found[role] = match
    for role in ("image", "label"):
        if role not in found:
            raise ValueError(
                f"The table {name!r} has no column that is surely the {role}. Name it: "
                f"{role}=COLUMN (--task-options {role}=COLUMN). It has: {', '.join(have)}."
            )
    return found


def _files(column: Any, root: Path, rows: Sequence[int], faults: list[str]) -> tuple[Path, ...]:
    names = ["" if value is None else str(value).strip() for value in column]
    for row, name in zip(rows, names, strict=True):
        if not name:
            faults.append(f"row {row}: the image has no name")
    below = root / "images"
    first = next((name for name in names if name), "")
    if not (root / first).exists() and (below / first).exists():
        root = below
    return tuple(root / name for name in names)


def _labels(
    frame: Any, column: str | Sequence[str], name: str, rows: Sequence[int], faults: list[str]
) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """Return class names, if the columns give them, and labels or distributions."""
    if not isinstance(column, str):
        classes = tuple(str(one) for one in column)
        try:
            shares = frame[list(column)].to_numpy().astype("float64")
        except ValueError as error:
            raise ValueError(
                f"The columns {', '.join(classes)} of {name!r} must hold numbers: {error}"
            ) from error
        sums = shares.sum(axis=1, keepdims=True)
        bad = ~(np.isfinite(shares).all(axis=1) & (shares >= 0).all(axis=1) & (sums[:, 0] > 0))
        for place in np.flatnonzero(bad).tolist():
            faults.append(
                f"row {rows[place]}: the shares of the classes must be finite, not negative, and "
                f"not all 0. Received: {shares[place].tolist()}"
            )
        return classes, shares / np.where(sums > 0, sums, 1.0)
    texts = np.array([_text(value) for value in frame[column]], dtype=object)
    for row, text in zip(rows, texts, strict=True):
        if not text:
            faults.append(f"row {row}: there is no class in column {column!r}")
    return None, texts


def _text(value: Any) -> str:
    """Return a label as text; numbers that are whole have no decimals."""
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _parts(column: Any, rows: Sequence[int], faults: list[str]) -> np.ndarray:
    names = [_text(value) for value in column]
    parts = [part_of(name) for name in names]
    known = sum(NAMES.values(), ())
    for row, name, part in zip(rows, names, parts, strict=True):
        if part is None:
            faults.append(f"row {row}: {unknown('split', name, known)}")
    return np.array([part or "train" for part in parts])


def _groups(
    frame: Any, column: str | None, rows: Sequence[int], faults: list[str]
) -> np.ndarray | None:
    if column is None:
        return None
    groups = np.array([_text(value) for value in frame[column]], dtype=object)
    for row, group in zip(rows, groups, strict=True):
        if not group:
            faults.append(f"row {row}: there is no group in column {column!r}")
    return groups


def _likely_groups(frame: Any) -> list[str]:
    """Return a note if a column, by its name, says which images belong together."""
    for column in frame.columns:
        if str(column).strip().lower() in GROUPS and frame[column].nunique() < len(frame):
            return [
                f"several images have the same {column!r}: name that column by `group` (--group), "
                "or images of one of them can be in train and in test."
            ]
    return []


def _weights(
    frame: Any, column: str | None, rows: Sequence[int], faults: list[str]
) -> np.ndarray | None:
    import pandas as pd

    if column is None:
        return None
    weights = pd.to_numeric(frame[column], errors="coerce").to_numpy("float64")
    for place in np.flatnonzero(~(np.isfinite(weights) & (weights >= 0))).tolist():
        faults.append(
            f"row {rows[place]}: the weight must be a finite number that is not negative. "
            f"Received: {frame[column].iloc[place]!r}"
        )
    return weights
