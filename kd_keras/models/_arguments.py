"""Checks of the arguments that every model shares."""

from collections.abc import Sequence
from typing import Any

from kd_keras.utils import checks

Shape = tuple[int, int, int]


def image_shape(value: Sequence[int]) -> Shape:
    """Return `(height, width, channels)` as a tuple of three positive integers."""
    if not (_is_sequence(value) and len(value) == 3 and all(map(_is_count, value))):
        raise ValueError(
            "`input_shape` must be (height, width, channels), three positive integers. "
            f"Received: input_shape={value!r}"
        )
    height, width, channels = value
    return int(height), int(width), int(channels)


def class_count(value: int) -> int:
    """Return the number of logits, an integer of at least 2."""
    if not (_is_count(value) and value >= 2):
        raise ValueError(f"`classes` must be an integer of at least 2. Received: classes={value!r}")
    return int(value)


def layer_sizes(name: str, value: Any) -> tuple[int, ...]:
    """Return a non-empty tuple of positive integers; a single integer counts as one layer."""
    sizes = (value,) if _is_count(value) else value
    if not (_is_sequence(sizes) and len(sizes) > 0 and all(map(_is_count, sizes))):
        raise ValueError(
            f"`{name}` must be a positive integer or a non-empty sequence of them. "
            f"Received: {name}={value!r}"
        )
    return tuple(int(size) for size in sizes)


def dropout_rate(name: str, value: float) -> float:
    """Return a dropout rate in [0, 1); a rate of 1 would leave nothing."""
    rate = checks.within(name, value, 0.0, 1.0)
    if rate == 1.0:
        raise ValueError(f"`{name}` must lie in [0, 1). Received: {name}={value!r}")
    return rate


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_count(value: object) -> bool:
    # numpy integers have __index__ too; True and False are not counts
    return hasattr(value, "__index__") and not isinstance(value, bool) and int(value) > 0  # type: ignore[call-overload]
