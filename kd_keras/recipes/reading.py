"""Read the data that a config names. TensorFlow is not needed for it."""

import dataclasses
from collections.abc import Callable
from typing import Any

from kd_keras import config as configs
from kd_keras import data
from kd_keras.data.task import Split, Task

OPTIONS = ("data_dir", "image_size", "soft_labels", "vote_weights")  # task options that are fields


def read_task(config: configs.DataConfig) -> Task:
    """Return the task of a config, with its image files as they are.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    return limited(data.load(**_named(config)), config)


def look_at(config: configs.DataConfig) -> Task:
    """Return the task of a config as `read_task` does, to choose settings: nothing is logged.

    Raises:
        ValueError, FileNotFoundError: as `data.load`.
    """
    return limited(data.read(**_named(config)), config)


def _named(config: configs.DataConfig) -> dict[str, Any]:
    """Return the arguments of `data.load` that a config stands for."""
    given = {name: getattr(config, name) for name in OPTIONS if getattr(config, name)}
    own = configs.parse_knobs("task_options", config.task_options)
    if twice := given.keys() & own.keys():
        raise ValueError(f"`task_options` gives {sorted(twice)[0]!r}, which has its own option.")
    named: dict[str, Any] = {"name": config.task}
    if config.data is not None:
        named = {"data": config.data, "group": config.group}
    return {**named, "seed": config.split_seed, **given, **own}


def limited(task: Task, config: configs.DataConfig) -> Task:
    """Return a task with at most `config.limit` examples in each split.

    Training and validation have at most `config.train_limit` together, in the shares of the task.
    What that leaves out of the training split is kept as the `rest` of the task.
    """
    few = _learned(task, config.train_limit)
    rest = task.train.beyond(few["train"]) if few else task.rest
    task = dataclasses.replace(task, rest=None if rest is None else rest.limited(config.limit))
    return each_split(task, lambda name, split: split.limited(few.get(name)).limited(config.limit))


def _learned(task: Task, limit: int | None) -> dict[str, int]:
    """Return the sizes of training and validation under a limit on both; empty if there is none."""
    both = len(task.train) + len(task.validation)
    if limit is None or limit >= both:
        return {}
    validation = round(limit * len(task.validation) / both)
    return {"train": limit - validation, "validation": validation}


def each_split(task: Task, change: Callable[[str, Split], Split]) -> Task:
    """Return a task whose splits, given with their names, have been changed."""
    names = ("train", "validation", "test")
    changed: dict[str, Any] = {name: change(name, getattr(task, name)) for name in names}
    return dataclasses.replace(task, **changed)
