"""Helpers that the commands share: a run's config from a command's options, and printing."""

import dataclasses
import json
from typing import Any, TypeVar

Config = TypeVar("Config")


def config_of(kind: type[Config], command: Any) -> Config:
    """Return the run's config, without the options that only the command line has."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    return kind(**{field.name: getattr(command, field.name) for field in fields})


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
