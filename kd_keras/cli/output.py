"""What the commands share: from a command's options to a run's config, and what they print."""

import dataclasses
import json
from typing import Any, TypeVar

Config = TypeVar("Config")


def config_of(kind: type[Config], command: Any) -> Config:
    """The run's config, without what only the command line knows."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    return kind(**{field.name: getattr(command, field.name) for field in fields})


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    print(json.dumps(value, default=str))
