"""Load tasks by name."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from kd_keras.data import builtin, folder, mhist
from kd_keras.data.task import Repeat, Split, Task
from kd_keras.utils.checks import lookup, unknown

log = logging.getLogger(__name__)

TASKS: dict[str, Callable[..., Task]] = {
    "digits": builtin.digits,
    "mnist": builtin.mnist,
    "digits_halves": builtin.digits_halves,
    "mnist_halves": builtin.mnist_halves,
    "mhist": mhist.load,
    "folder": folder.load,
}


def load(name: str, **options) -> Task:
    """Load a task by name. Its `repeats`, pictures that occur twice, are logged as warnings.

    Args:
        name: one of `TASKS`.
        options: options of the task's loader, such as `data_dir`, `image_size` and `seed`.

    Raises:
        ValueError: for an unknown task or option, or bad data.

    Example:
        >>> import kd_keras as kd
        >>> task = kd.data.load("digits", seed=0)
        >>> len(task.train), len(task.validation), len(task.test), task.classes
        (1149, 288, 360, 10)
    """
    loader = lookup("task", TASKS, name)
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of task {name!r}:", option, known))
    task = loader(**options)
    for repeat in task.repeats:
        log.warning("The task %s: %s", name, repeat.sentence)
    return task


def options_of(name: str) -> dict[str, Any]:
    """Return the options of a task's loader with their defaults."""
    parameters = inspect.signature(lookup("task", TASKS, name)).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters}


__all__ = ["Repeat", "Split", "TASKS", "Task", "load", "options_of"]
