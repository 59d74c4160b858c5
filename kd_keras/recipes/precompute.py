"""Compute a teacher's predictions ahead of the runs that need them: `kd-keras cache build`."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from kd_keras.cache import default_directory
from kd_keras.config import CacheConfig, TeacherInputConfig
from kd_keras.recipes import setup, teacher_predictions


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecomputeConfig(TeacherInputConfig, CacheConfig):
    """A teacher whose predictions are stored; `distill` with the same settings opens them."""

    teacher: str
    """A teacher that exists: a file, a folder, hub:NAME or FILE.py:FUNCTION, as in `distill`."""
    taps: tuple[str, ...] = ("logits",)
    """The taps to store: names of taps, or paths of layers."""


def run(config: PrecomputeConfig) -> dict[str, Any]:
    """Store a teacher's predictions on the training images on disk, unless they are there already.

    The number of rows, their bytes and their folder are logged before the first row is computed.

    Args:
        config: the teacher, the images and the folder.

    Returns:
        `key`, `folder`, `rows`, `bytes` and `seconds`.

    Raises:
        ValueError, FileNotFoundError: bad settings, teacher or data, or more bytes than the limit.
        OSError: the disk is too small, or fills up.
    """
    setup.check_data(config)
    if config.augmentation != "none" and config.views is None:
        raise ValueError(
            f"With `augmentation`={config.augmentation!r} the images differ every epoch: give "
            "`views`, the number of versions of each image that the teacher is run on."
        )
    task = setup.load_task(config)
    teacher = setup.load_teacher(config.teacher, config, task)
    source = teacher_predictions.source_of(teacher, config.taps, config, task)
    request = teacher_predictions.plan(source, config, task)
    if request is None:
        raise ValueError(f"The shapes of the taps are not fixed. Received: {source.shapes}")
    where = teacher_predictions.place(config)
    folder = Path(where.directory or default_directory()) / request.key
    start = time.perf_counter()
    stored = dataclasses.replace(where, directory=folder.parent).open(source, request.transfer_set)
    return {
        "key": request.key,
        "folder": str(folder),
        "rows": stored.count,
        "bytes": stored.count * request.row_bytes,
        "seconds": round(time.perf_counter() - start, 3),
    }
