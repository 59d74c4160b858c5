"""The settings that every run of a study shares: its data, its seeds, and a quick test's size."""

import dataclasses
from typing import Any, TypeVar

from kd_keras.config import RunConfig, StudyConfig

Config = TypeVar("Config", bound=RunConfig)


def own(study: StudyConfig, config: Config, seeds: tuple[int, ...] | None = None) -> Config:
    """Return a config with the data of a study, and with seeds; a small one for a quick test.

    Args:
        study: the settings of the study.
        config: of a run.
        seeds: of the run; None takes those of the study.

    Example:
        >>> from kd_keras.config import TrainConfig
        >>> config = own(StudyConfig(study="mnist", seeds=(3, 4), smoke=True), TrainConfig())
        >>> config.epochs, config.limit, config.seeds
        (1, 128, (3,))
    """
    settings: dict[str, Any] = {"seeds": study.seeds if seeds is None else seeds}
    if study.data_dir is not None:
        settings["data_dir"] = study.data_dir
    if study.smoke:
        quick = {"limit": 128, "epochs": 1, "batch_size": 32, "seeds": settings["seeds"][:1]}
        settings |= quick
    return dataclasses.replace(config, **settings)
