"""The teacher's predictions in a run: for which images, and stored where, or computed live."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import keras
import numpy as np

from kd_keras import cache
from kd_keras.cache.build import check_limit
from kd_keras.cache.request import Request, make_request
from kd_keras.cache.transfer import check_views
from kd_keras.config import CacheConfig, DataConfig
from kd_keras.data.augmentation import joined
from kd_keras.data.task import Task
from kd_keras.methods import Method
from kd_keras.models import precision
from kd_keras.teachers import LiveTeacher, TeacherSource, as_source

Seen = TypeVar("Seen", bound=DataConfig)

log = logging.getLogger(__name__)

GIGABYTE = 10**9
PROBE = 32  # images that the choice of a precision is based on
LONG_PASS = 30.0  # seconds
BLOCK = 8192  # rows per dict that `blocks` yields


def as_seen(config: Seen, method: Method) -> Seen:
    """Return the config with the augmentation under which a method's student learns.

    Args:
        config: gives `augmentation`, which applies to the images of every model.
        method: may add an augmentation of its own.
    """
    both = joined(config.augmentation, method.augmentation)
    return dataclasses.replace(config, augmentation=both)


def views_of(config: DataConfig) -> int | None:
    """Return the number of views per image that a config requests.

    None means that every epoch draws new views, or that images are not augmented.
    """
    return (
        None
        if config.augmentation == "none"
        else (config.views if isinstance(config, CacheConfig) else None)
    )


def check_storage(config: CacheConfig, *learning: Method) -> None:
    """Raise `ValueError` for an unknown storage or precision, and for views of unchanged images.

    Args:
        config: a `CacheConfig` that also gives `augmentation`.
        learning: the methods of the run, which may add augmentations of their own.
    """
    cache.as_storage(config.cache_storage)
    if config.teacher_precision != "auto":
        precision.check(config.teacher_precision)
    if config.views is not None:
        seen = [as_seen(config, method) for method in learning] or [config]
        changing = [one.augmentation for one in seen if one.augmentation != "none"]
        check_views(config.views, changing[0] if changing else None)


def transfer_set(config: DataConfig, task: Task) -> cache.SplitViews | None:
    """Return the training images that the students see; None if each epoch draws new views.

    The views depend on the seed of the split, not on the seed of a training: they are the same for
    all seeds and all students.

    Args:
        config: gives `augmentation`, `views` and `split_seed`.
        task: the task whose training split is used.
    """
    views = views_of(config)
    if config.augmentation != "none" and views is None:
        return None
    return cache.SplitViews(
        task.train,
        fingerprint=f"{task.fingerprint}/train",
        augmentation=config.augmentation,
        views=views or 1,
        seed=config.split_seed,
        name=f"{task.name}, train",
    )


def place(config: CacheConfig) -> cache.Cache:
    """Return the cache that a config describes."""
    limit = None if config.cache_limit_gb is None else int(config.cache_limit_gb * GIGABYTE)
    return cache.Cache(config.cache_dir, storage=config.cache_storage, limit=limit)


def source_of(teacher: Any, taps: Sequence[str], config: CacheConfig, task: Task) -> TeacherSource:
    """Return a teacher as a source, in the precision that the config requests.

    With `auto` this is bfloat16 if the pass over the training images would take more than 30
    seconds in float32 and `precision.measure` chooses bfloat16 on some of the images. A teacher
    that runs live stays in float32.
    """
    images = transfer_set(config, task)
    if not (isinstance(teacher, keras.Model) and taps) or images is None:
        return as_source(teacher, taps)
    chosen = config.teacher_precision
    if chosen == "auto":
        chosen, some = "float32", next(iter(images.batches()))[:PROBE]
        start = time.perf_counter()
        teacher(some, training=False)
        each = (time.perf_counter() - start) / len(some)
        if each * images.views * len(task.train) > LONG_PASS:
            chosen = precision.measure(teacher, some).chosen
    return LiveTeacher(teacher, taps, chosen)


def plan(source: TeacherSource, config: CacheConfig, task: Task) -> Request | None:
    """Return the request for a teacher's predictions; None if there is none, or it runs live.

    Raises:
        ValueError: for predictions that take more than `cache_limit_gb`, or that the storage cannot
            hold.
    """
    images = transfer_set(config, task)
    if images is None or not source.shapes:
        return None
    if any(None in shape[1:] for shape in source.shapes.values()):
        log.warning("A tap of the teacher has no fixed shape: the teacher runs at every step.")
        return None
    request = make_request(source, images, config.cache_storage)
    check_limit(request, place(config).limit)
    return request


def stored(source: TeacherSource, config: CacheConfig, task: Task) -> cache.Stored | None:
    """Return the teacher's predictions on the training images; None if it runs live.

    Without a `cache_dir`, predictions that `kd-keras cache build` has put in the default directory
    are opened there; others are stored in memory if they fit.

    Raises:
        ValueError, OSError: as `cache.Cache.open`.
    """
    request = plan(source, config, task)
    if request is None:
        return None
    where = place(config)
    if where.directory is None and (cache.default_directory() / request.key).is_dir():
        where = dataclasses.replace(where, directory=cache.default_directory())
    return where.open(source, request.transfer_set)


def blocks(answers: cache.Stored) -> Iterator[dict[str, np.ndarray]]:
    """Yield all predictions, some thousand rows at a time: dicts from tap to array."""
    for start in range(0, answers.count, BLOCK):
        rows = np.arange(start, min(start + BLOCK, answers.count))
        yield {tap: values.numpy() for tap, values in answers.gather(rows).items()}
