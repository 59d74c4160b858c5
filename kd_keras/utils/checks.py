"""Argument checks: an error names the argument, the expected and the received value."""

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def positive(name: str, value: float) -> float:
    """Return `value` as a float, if it is a finite number above zero."""
    if not (_is_number(value) and math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a positive number. Received: {name}={value!r}")
    return float(value)


def at_least_zero(name: str, value: float) -> float:
    """Return `value` as a float, if it is zero or above."""
    return within(name, value, 0.0, math.inf)


def positive_int(name: str, value: int) -> int:
    """Return `value` as an int, if it is a whole number above zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` must be a positive whole number. Received: {name}={value!r}")
    return int(value)


def within(name: str, value: float, low: float, high: float) -> float:
    """Return `value` as a float, if it lies in `[low, high]`."""
    if not (_is_number(value) and low <= value <= high):
        raise ValueError(f"`{name}` must lie in [{low:g}, {high:g}]. Received: {name}={value!r}")
    return float(value)


def lookup(kind: str, table: Mapping[str, Value], name: str) -> Value:
    """Return `table[name]`, or raise a `ValueError` with the known names and the nearest one."""
    if name in table:
        return table[name]
    raise ValueError(unknown(kind, name, table))


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the error message for an unknown name."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"Unknown {kind} {name!r}.{hint} Known: {', '.join(names)}."


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)
