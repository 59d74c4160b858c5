"""Values that change over epochs: a schedule is a callable from the epoch (from 0) to a float."""

import dataclasses
import math
from typing import Any

import keras

from kd_keras.utils.checks import positive_int


class Configured:
    """A mixin that lets Keras save a dataclass as a configuration and restore it."""

    def get_config(self) -> dict:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Linear(Configured):
    """A linear change from `start` at epoch 0 to `end` at epoch `epochs - 1`; `end` afterwards.

    Example:
        >>> from kd_keras.schedules import Linear
        >>> [Linear(1.0, 0.0, epochs=3)(epoch) for epoch in range(4)]
        [1.0, 0.5, 0.0, 0.0]
    """

    start: float
    end: float
    epochs: int

    def __call__(self, epoch: int) -> float:
        done = 1.0 if self.epochs <= 1 else min(epoch / (self.epochs - 1), 1.0)
        return self.start + (self.end - self.start) * done


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Ramp(Configured):
    """`start` before epoch `first`, then a linear change, and `end` from epoch `last` on.

    The weight of soft targets in FitNets is `Ramp(4.0, 1.0, first=5, last=400)` on CIFAR and
    `Ramp(4.0, 0.0, first=5, last=150)` on MNIST (Romero et al., 2015).

    Example:
        >>> from kd_keras.schedules import Ramp
        >>> [Ramp(4.0, 0.0, first=1, last=4)(epoch) for epoch in range(6)]
        [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]
    """

    start: float
    end: float
    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(
                "`first` and `last` must be epochs in order. "
                f"Received: first={self.first!r}, last={self.last!r}"
            )

    def __call__(self, epoch: int) -> float:
        if epoch >= self.last:
            return self.end
        done = max(epoch - self.first + 1, 0) / (self.last - self.first + 1)
        return self.start + (self.end - self.start) * done


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Steps(Configured):
    """A step function: `values[k]` from epoch `boundaries[k - 1]` on.

    There is one more value than there are boundaries. Early-stopped distillation, with plain
    training from epoch 60 on, is `alpha=Steps((0.1, 1.0), (60,))` (Cho and Hariharan, 2019).
    """

    values: tuple[float, ...]
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        # Keras returns lists when it loads a configuration
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "boundaries", tuple(self.boundaries))
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "`values` must have one entry more than `boundaries`. "
                f"Received: values={self.values}, boundaries={self.boundaries}"
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"`boundaries` must increase. Received: {self.boundaries}")

    def __call__(self, epoch: int) -> float:
        return self.values[sum(epoch >= boundary for boundary in self.boundaries)]


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Drops(Configured):
    """`start`, multiplied by `factor` each time `every` epochs have passed.

    A shortened schedule does not just end earlier, it also drops earlier: 200 epochs with a drop
    every 60 become 50 epochs with a drop every 15.

    Example:
        >>> from kd_keras.schedules import Drops
        >>> [round(Drops(0.1, 0.5, every=2)(epoch), 3) for epoch in range(6)]
        [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]
    """

    start: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        positive_int("every", self.every)

    def __call__(self, epoch: int) -> float:
        return self.start * self.factor ** (epoch // self.every)


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class Cosine(Configured):
    """`start` up to epoch `first`, then half a cosine, which would reach zero at epoch `epochs`.

    With `t = epoch - first` and `T = epochs - first`, the value is
    `start / 2 * (1 + cos(pi * t / T))`. The last epoch, `epochs - 1`, has a value above zero.

    Source: Loshchilov and Hutter, *SGDR* (2017), equation 5, without restarts, with a minimum of 0.

    Example:
        >>> from kd_keras.schedules import Cosine
        >>> [round(Cosine(0.1, epochs=4)(epoch), 4) for epoch in range(5)]
        [0.1, 0.0854, 0.05, 0.0146, 0.0]
    """

    start: float
    epochs: int
    first: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.epochs:
            raise ValueError(
                "`first` must be one of the `epochs`. "
                f"Received: first={self.first!r}, epochs={self.epochs!r}"
            )

    def __call__(self, epoch: int) -> float:
        done = (epoch - self.first) / (self.epochs - self.first)
        return self.start / 2 * (1.0 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


@keras.saving.register_keras_serializable("kd_keras")
@dataclasses.dataclass(frozen=True)
class WarmUp(Configured):
    """`value`, a number or a schedule, reached in `epochs` equal steps from zero.

    Epoch `e < epochs` has the share `(e + 1) / (epochs + 1)` of the value, so that epoch `epochs`
    is the first with all of it.

    Source: Goyal et al., *Accurate, Large Minibatch SGD* (2017), section 2.2, gradual warm-up.

    Example:
        >>> from kd_keras.schedules import WarmUp
        >>> [WarmUp(0.8, epochs=3)(epoch) for epoch in range(5)]
        [0.2, 0.4, 0.6000000000000001, 0.8, 0.8]
    """

    value: Any
    epochs: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", restored(self.value))
        positive_int("epochs", self.epochs)

    def __call__(self, epoch: int) -> float:
        share = min(1.0, (epoch + 1) / (self.epochs + 1))
        return value_at(self.value, epoch) * share

    def get_config(self) -> dict:
        value = keras.saving.serialize_keras_object(self.value)
        return {"value": value, "epochs": self.epochs}


def restored(value):
    """Restore an object, such as a schedule, from its configuration; return anything else as is."""
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value


def value_at(value, epoch: int) -> float:
    """Return a number as is, or a schedule's value at `epoch`."""
    return float(value(epoch)) if callable(value) else value
