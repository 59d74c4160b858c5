"""From the words of a command line to values, and from a config to what JSON keeps."""

import ast
import dataclasses
from pathlib import Path
from typing import Any


def parse_knobs(argument: str, knobs: tuple[str, ...]) -> dict[str, Any]:
    """`("width=0.5", "hidden=64,64")` as `{"width": 0.5, "hidden": (64, 64)}`.

    Raises:
        ValueError: for an entry that is not `name=value`.
    """
    parsed = {}
    for knob in knobs:
        name, equals, text = knob.partition("=")
        if not (name and equals and text):
            raise ValueError(f"`{argument}` takes entries like width=0.5. Received: {knob!r}")
        parsed[name] = _literal(text)
    return parsed


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word, such as the name of a layer


def as_dict(config: Any) -> dict[str, Any]:
    """A config as JSON keeps it."""
    plain = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        value = str(value) if isinstance(value, Path) else value
        plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain
