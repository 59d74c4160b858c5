"""The transfer set of a run: unlabelled images on which students learn from the teacher alone."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_keras.cache.pictures import decoded_once
from kd_keras.config import CacheConfig, PretrainConfig, RunConfig, TransferConfig
from kd_keras.data import folder
from kd_keras.data.munge import munge
from kd_keras.data.task import Split, Task, joined, unlabelled
from kd_keras.methods import Stage
from kd_keras.runtime.machine import available_memory
from kd_keras.training.mixed import check_unlabelled as check_stage
from kd_keras.utils.checks import unknown
from kd_keras.utils.files import fingerprint, whole_file
from kd_keras.utils.records import (
    DamagedFile,
    check_digests,
    digest_of,
    read_signed,
    reading,
    set_aside,
    write_signed,
)

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.25
MADE = "munge.npy"
DIGEST = {"digest of the file": str}  # stored beside it


def task_of_students(config: RunConfig, task: Task, work: Path) -> Task:
    """Return the task that the distilled students learn: its training split is the transfer set.

    Args:
        config: requests a transfer set only if it is a `TransferConfig`.
        task: the task of the teacher and of the student alone; returned unchanged if no transfer
            set is requested.
        work: the folder for synthetic images, for a run that resumes after a kill.

    Raises:
        ValueError, FileNotFoundError: as `check` and `data.folder.unlabelled`.
    """
    if not isinstance(config, TransferConfig):
        return task
    if config.transfer_dir is not None:
        split, content = folder.unlabelled(config.transfer_dir, task.image_shape)
        split = decoded_once(
            split.limited(config.limit),
            fingerprint=content,
            name="unlabelled images",
            directory=config.cache_dir if isinstance(config, CacheConfig) else None,
        )
    elif config.munge is not None:
        made = _made(config, config.munge, config.split_seed, task, work / MADE)
        split, content = unlabelled(task.image_shape, images=made), fingerprint(made)
    elif config.transfer_without:
        split = _without(config.transfer_without, task)
        content = fingerprint("without classes", sorted(config.transfer_without))
    elif config.transfer_rest and task.rest is not None:
        content = fingerprint("with the rest", config.train_limit, config.limit)
        split = _with_rest(task.train, task.rest, f"{task.fingerprint}/{content}", config)
    else:
        return task
    return dataclasses.replace(
        task, train=split, fingerprint=fingerprint(task.fingerprint, content)
    )


def digests(config: RunConfig, task: Task) -> dict[str, str]:
    """Return the digest of a folder of unlabelled images, so that no run resumes with others."""
    if not isinstance(config, TransferConfig) or config.transfer_dir is None:
        return {}
    return {"transfer set": folder.unlabelled(config.transfer_dir, task.image_shape)[1]}


def check(config: RunConfig, task: Task) -> None:
    """Raise `ValueError` for a transfer set that cannot be made.

    Synthetic images may not be possible, or take more than the memory; classes to leave out may be
    unknown, or all that there are.
    """
    if not isinstance(config, TransferConfig):
        return
    if config.transfer_without:
        _check_classes(config.transfer_without, task)
    if config.munge is None:
        return
    if task.train.images is None or len(task.train) < 2:
        raise ValueError(
            "`munge` compares all training images with each other: it needs two or more, all in "
            "memory. Use smaller ones (`image_size`), or fewer (`limit`)."
        )
    size, free = config.munge * task.train.images.nbytes, available_memory()
    if size > MEMORY_SHARE * free:
        raise ValueError(
            f"`munge`={config.munge} makes {size / 1e9:.1f} GB of images, more than a quarter of "
            f"the {free / 1e9:.1f} GB of free memory. Ask for fewer."
        )


def check_unlabelled(config: RunConfig, plan: Sequence[Stage], alpha: Any) -> None:
    """Raise `ValueError` for stages that need labels, if the transfer set has none."""
    if not isinstance(config, TransferConfig) or not _has_own_images(config):
        return
    for stage in plan:
        if stage.method is None and isinstance(config, PretrainConfig):
            continue  # it learns from the labelled images of the task
        if stage.method is None:
            raise ValueError(
                f"The transfer set has no labels, but the stage {stage.name!r} of the method "
                "learns from labels."
            )
        try:
            check_stage(stage.method, alpha if stage.alpha is None else stage.alpha)
        except ValueError as error:
            raise ValueError(f"The transfer set has no labels. {error}") from error


def _has_own_images(config: TransferConfig) -> bool:
    """Return whether the distilled student learns on other images than the training images."""
    named = config.transfer_dir is not None or config.munge is not None
    return named or bool(config.transfer_without) or config.transfer_rest


def _check_classes(names: Sequence[str], task: Task) -> None:
    """Raise `ValueError` for classes that cannot be left out of the transfer set."""
    for name in names:
        if name not in task.class_names:
            raise ValueError(unknown("class in `transfer_without`:", name, task.class_names))
    if not _kept_rows(names, task).size:
        raise ValueError(
            "`transfer_without` leaves no training image for the distilled student: name fewer "
            f"classes. Received: transfer_without={tuple(names)}"
        )


def _kept_rows(names: Sequence[str], task: Task) -> np.ndarray:
    """Return the rows of the training images that are of none of the named classes."""
    left_out = [task.class_names.index(name) for name in names]
    return np.flatnonzero(~np.isin(task.train.labels, left_out))


def _without(names: Sequence[str], task: Task) -> Split:
    """Return the training images of the other classes, without their labels."""
    kept = task.train.rows(_kept_rows(names, task))
    return unlabelled(task.image_shape, images=kept.images, files=kept.files)


def _with_rest(train: Split, rest: Split, content: str, config: TransferConfig) -> Split:
    """Return the training images and those that a limit left out, without their labels."""
    decoded = decoded_once(
        rest,
        fingerprint=content,
        name="images beyond the limit",
        directory=config.cache_dir if isinstance(config, CacheConfig) else None,
    )
    both = (
        unlabelled(split.image_shape, images=split.images, files=split.files)
        for split in (train, decoded)
    )
    return joined(*both)


def _made(config: TransferConfig, copies: int, seed: int, task: Task, kept: Path) -> np.ndarray:
    """Return synthetic images, shape `(munge * n, height, width, channels)`, stored ones if any."""
    if kept.exists():  # by this run: others have another folder, or are refused in this one
        try:
            return _kept(kept)
        except DamagedFile as error:
            set_aside(kept, error, "The images are made again.")
    log.info("Making %d images for each of %d (MUNGE).", copies, len(task.train))
    made = munge(
        np.asarray(task.train.images),
        copies=copies,
        swap=config.munge_swap,
        sharpness=config.munge_sharpness,
        seed=seed,
    )
    with whole_file(kept) as temporary:
        np.save(temporary, made)
    write_signed(kept.with_suffix(".json"), {"digest of the file": digest_of(kept)})
    return made


def _kept(path: Path) -> np.ndarray:
    """Read stored synthetic images.

    Raises:
        DamagedFile: the file is not what was written.
    """
    signed = path.with_suffix(".json")
    if not signed.exists():  # a kill came between the two writes
        raise DamagedFile(path, "its digest is missing")
    check_digests(path.parent, {path.name: read_signed(signed, DIGEST)["digest of the file"]})
    with reading(path):
        return np.load(path)
