"""Transforms of the teacher's probabilities to targets; the command line takes them by name."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kd_keras import schedules
from kd_keras.utils.checks import positive_int, within


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Smoothed(schedules.Configured):
    """Label smoothing: spread a share of the probability evenly, `(1 - share) p + share / K`.

    Example:
        >>> import numpy as np
        >>> Smoothed(0.5)(np.array([[1.0, 0.0]])).tolist()
        [[0.75, 0.25]]
    """

    share: float

    def __post_init__(self) -> None:
        within("share", self.share, 0.0, 1.0)

    def __call__(self, p):
        return (1.0 - self.share) * p + self.share / p.shape[-1]


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Top(schedules.Configured):
    """Leave the `count` largest probabilities unchanged; spread the rest evenly over the others.

    Example:
        >>> import numpy as np
        >>> np.round(Top(1)(np.array([[0.7, 0.2, 0.1]])), 2).tolist()
        [[0.7, 0.15, 0.15]]
    """

    count: int

    def __post_init__(self) -> None:
        positive_int("count", self.count)

    def __call__(self, p):
        classes = p.shape[-1]
        if self.count >= classes:
            return p
        largest, places = ops.top_k(p, self.count)
        kept = ops.max(ops.one_hot(places, classes, dtype=p.dtype), axis=-2)
        left = 1.0 - ops.sum(largest, axis=-1, keepdims=True)
        return ops.where(kept > 0, p, left / (classes - self.count))


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Extracted(schedules.Configured):
    """The part of the probabilities above chance, normalised and smoothed.

    With `d = max(p - 1/K, 0)`, it is `(1 - share) d / sum d + share / K`. Probabilities that are
    all equal stay as they are.

    Source: Kobayashi, *Extractive Knowledge Distillation* (2022), after two public accounts that
    agree; the paper itself was not read.

    Example:
        >>> import numpy as np
        >>> np.round(Extracted(0.0)(np.array([[0.5, 0.4, 0.1]])), 3).tolist()
        [[0.714, 0.286, 0.0]]
    """

    share: float

    def __post_init__(self) -> None:
        within("share", self.share, 0.0, 1.0)

    def __call__(self, p):
        even = 1.0 / p.shape[-1]
        above = ops.maximum(p - even, 0.0)
        total = ops.sum(above, axis=-1, keepdims=True)
        some = total > 0.0
        extracted = ops.where(some, above / ops.where(some, total, 1.0), even)
        return (1.0 - self.share) * extracted + self.share * even


def transform_of(given: Any) -> Callable | None:
    """Return a transform for a name or a configuration; a function or None as is.

    Args:
        given: `"smooth0.1"` or `"extract0.2"` with any share, `"top3"` with any number, a
            configuration, a function, or None.

    Raises:
        ValueError: for anything else.

    Example:
        >>> transform_of("smooth0.1"), transform_of("top3")
        (Smoothed(share=0.1), Top(count=3))
    """
    given = schedules.restored(given)
    if isinstance(given, str):
        if found := re.fullmatch(r"(smooth|extract)(\d*\.?\d+)", given):
            kind = Smoothed if found[1] == "smooth" else Extracted
            return kind(float(found[2]))
        if found := re.fullmatch(r"top(\d+)", given):
            return Top(int(found[1]))
    elif given is None or callable(given):
        return given
    raise ValueError(
        "`transform` must be a function of the teacher's probabilities, 'smooth0.1' or "
        f"'extract0.2' (any share), 'top3' (any number), or None. Received: transform={given!r}"
    )
