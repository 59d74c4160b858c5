"""Which methods `all` stands for: those that these models and data can be taught by."""

import dataclasses
import logging
from typing import Any

from kd_keras.config import CompareConfig
from kd_keras.data.task import Task
from kd_keras.methods import METHODS
from kd_keras.recipes import setup, transfer

log = logging.getLogger(__name__)

ALL = "all"


def opened(config: Any) -> tuple[Any, Task]:
    """A sweep's config, `all` replaced by the methods it stands for, and its task.

    Those that do not fit are said, and why. A method of several names counts once.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as `setup.open_task`.

    Example:
        >>> from kd_keras.config import CompareConfig
        >>> config, task = opened(CompareConfig(methods=("all",), students=("mlp:hidden=8,",)))
        >>> "rkd" in config.methods, "at" in config.methods  # which compares maps
        (True, False)
    """
    if not isinstance(config, CompareConfig) or ALL not in config.methods:
        return config, setup.open_task(config)
    others = tuple(text for text in config.methods if text != ALL)
    # what is wrong whatever the method is, shows here
    task = setup.open_task(dataclasses.replace(config, methods=others or ("kd",)))
    names = {kind: name for name, kind in reversed(METHODS.items())}.values()
    fitting = [name for name in reversed(names) if _fits(name, config, task)]
    chosen = tuple(dict.fromkeys((*fitting, *others)))
    return dataclasses.replace(config, methods=chosen), task


def _fits(name: str, config: CompareConfig, task: Task) -> bool:
    config = dataclasses.replace(config, methods=(name,))
    try:
        setup.check(config)
        transfer.check(config, task)
        setup.check_models(config, task)
    except ValueError as error:
        log.warning("%s is left out: %s", name, error)
        return False
    return True
