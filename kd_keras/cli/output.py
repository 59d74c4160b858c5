"""Helpers that the commands share: a run's config from a command's options, and printing."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, TypeVar

Config = TypeVar("Config")


def config_of(kind: type[Config], command: Any) -> Config:
    """Return the run's config, without the options that only the command line has.

    A quick trial (`--smoke`) has a folder of its own, so that the run itself can begin beside it.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    config: Any = kind(**{field.name: getattr(command, field.name) for field in fields})
    if getattr(command, "smoke", False) and getattr(config, "out", "") is None:
        config = dataclasses.replace(config, out=config.folder.with_name(_smoke(config)))
    return config


def _smoke(config: Any) -> str:
    return f"{config.folder.name}-smoke"


def report_of(config: Any) -> Path:
    """Write the report of a finished run into its folder, hand it to trackers, return the page."""
    from kd_keras import report
    from kd_keras.recipes import tracking

    page = report.build([config.folder], config.folder / "report")
    for place in tracking.log_run(config.track, config.folder):
        print(f"tracked: {place}", file=sys.stderr)
    return page


def counted(number: int, thing: str) -> str:
    """Return a number of things.

    Example:
        >>> counted(1, "seed"), counted(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


def print_json(value: Any) -> None:
    """Print one line of JSON to standard output."""
    print(json.dumps(value, default=str))
