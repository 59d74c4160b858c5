"""Parse compact model and method specs, such as `mlp:hidden=64,64`; convert configs for JSON.

Within another spec, the same spec is written `mlp(hidden=64,64)`.
"""

import ast
import dataclasses
from pathlib import Path
from typing import Any

BRACKETS = {")": "(", "]": "["}


def outside_brackets(text: str, mark: str) -> list[str]:
    """Split `text` at `mark`, but not within brackets.

    Raises:
        ValueError: for an unmatched bracket.

    Example:
        >>> outside_brackets("cnn(width=0.5,x=(1,2)),lenet5", ",")
        ['cnn(width=0.5,x=(1,2))', 'lenet5']
    """
    parts, open_ = [""], []
    for letter in text:
        if letter in BRACKETS.values():
            open_.append(letter)
        elif letter in BRACKETS and (not open_ or open_.pop() != BRACKETS[letter]):
            raise ValueError(f"A bracket is closed but was never opened. Received: {text!r}")
        if letter == mark and not open_:
            parts.append("")
        else:
            parts[-1] += letter
    if open_:
        raise ValueError(f"A bracket is not closed. Received: {text!r}")
    return parts


def parts_of(text: str) -> list[str]:
    """Split a spec, written either way, into its name and its options.

    Raises:
        ValueError: for an unmatched bracket.

    Example:
        >>> parts_of("mlp:hidden=64,64"), parts_of("mlp(hidden=64,64, dropout=0.5)")
        (['mlp', 'hidden=64,64'], ['mlp', 'hidden=64,64', 'dropout=0.5'])
    """
    name, *options = outside_brackets(text, ":")
    if options or not name.endswith(")"):
        return [name, *options]
    name, _, inside = name[:-1].partition("(")
    for part in outside_brackets(inside, ","):
        if "=" in part or not options:
            options.append(part.strip())
        else:  # a comma of a value, not between options
            options[-1] += f",{part.strip()}"
    return [name, *options]


def parse_knobs(argument: str, knobs: tuple[str, ...]) -> dict[str, Any]:
    """Parse `("width=0.5", "hidden=64,64")` as `{"width": 0.5, "hidden": (64, 64)}`.

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
    """Convert a config to a dict that JSON can hold."""
    plain = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        value = str(value) if isinstance(value, Path) else value
        plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain
