"""The phases of a training, each with its own frozen weights and its own learning rates."""

import dataclasses
import math
from collections.abc import Callable

import keras

from kd_keras import schedules
from kd_keras.config import BudgetConfig
from kd_keras.models import freezing


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a training, with its own frozen weights, if any, and its own learning rate.

    Attributes:
        rate: the learning rate at an epoch of the training.
        of: the epochs that it is scheduled over, if they are more than those of the phase.
    """

    name: str
    first_epoch: int
    last_epoch: int
    rate: Callable[[int], float]
    prepare: Callable[[keras.Model], None]
    of: int = 0

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Return the callback that sets the learning rate at each epoch, if it ever changes."""
        epochs = range(self.first_epoch, max(self.last_epoch, self.first_epoch + self.of))
        if len({self.rate(epoch) for epoch in epochs}) < 2:
            return []
        return [keras.callbacks.LearningRateScheduler(self.rate)]


def phases(budget: BudgetConfig, epochs: int, of: int | None = None) -> list[Phase]:
    """Return the phases: the whole model for `epochs`; in transfer learning, the head first.

    Args:
        budget: the learning rates, and the epochs of the head.
        epochs: the epochs after those of the head.
        of: the epochs that the learning rate is scheduled over, of which these are the first; None
            means no more than these.
    """
    head, of = budget.head_epochs, of or epochs
    rate = learning_rate(budget, of)
    if not head:
        return [Phase("all", 0, epochs, rate, lambda model: None, of)]
    return [
        Phase("head", 0, head, head_learning_rate(budget), freezing.freeze),
        Phase(
            "fine-tuning",
            head,
            head + epochs,
            lambda epoch: rate(epoch - head),
            lambda model: freezing.unfreeze(model, budget.unfreeze_blocks),
            of,
        ),
    ]


def learning_rate(budget: BudgetConfig, epochs: int) -> Callable[[int], float]:
    """Return the learning rate by epoch; its drops come at fixed shares of `epochs`.

    Example:
        >>> budget = BudgetConfig(learning_rate=0.1, learning_rate_drop=(0.3, 0.2))
        >>> [round(learning_rate(budget, 50)(epoch), 5) for epoch in (14, 15, 30, 45)]
        [0.1, 0.02, 0.004, 0.0008]
        >>> budget = BudgetConfig(learning_rate=0.1, learning_rate_drop=(0.5, 0.75, 0.1))
        >>> [round(learning_rate(budget, 8)(epoch), 5) for epoch in (3, 4, 6)]
        [0.1, 0.01, 0.001]
        >>> budget = BudgetConfig(learning_rate=0.1, schedule="cosine", warmup=0.25)
        >>> [round(learning_rate(budget, 4)(epoch), 5) for epoch in range(4)]
        [0.05, 0.1, 0.075, 0.025]
    """
    if budget.learning_rate_drop is None:
        return _scheduled(budget, budget.learning_rate, epochs)
    *shares, factor = budget.learning_rate_drop
    places = [_count(math.floor, share, epochs) or 1 for share in shares]
    if len(places) == 1:
        return _warmed(schedules.Drops(budget.learning_rate, factor, places[0]), budget, epochs)
    return _warmed(
        lambda epoch: budget.learning_rate * factor ** sum(epoch >= place for place in places),
        budget,
        epochs,
    )


def head_learning_rate(budget: BudgetConfig) -> Callable[[int], float]:
    """Return the learning rate by epoch of the head; it has no drops."""
    return _scheduled(budget, budget.head_learning_rate, budget.head_epochs)


def _scheduled(budget: BudgetConfig, highest: float, epochs: int) -> Callable[[int], float]:
    """Return a constant rate or a cosine."""
    if budget.schedule != "cosine":
        return _warmed(lambda epoch: highest, budget, epochs)
    first = _warm_up(budget, epochs)
    return _warmed(schedules.Cosine(highest, epochs, first), budget, epochs)


def _warmed(
    rate: Callable[[int], float], budget: BudgetConfig, epochs: int
) -> Callable[[int], float]:
    """Return a rate that begins with the warm-up, if there is one."""
    first = _warm_up(budget, epochs)
    return schedules.WarmUp(rate, first) if first else rate


def _warm_up(budget: BudgetConfig, epochs: int) -> int:
    """Return the epochs of the warm-up: at least one if there is any, and one less than all."""
    return min(epochs - 1, _count(math.ceil, budget.warmup, epochs))


def _count(rounded: Callable[[float], int], share: float, epochs: int) -> int:
    """Return a share of the epochs as their number."""
    return rounded(round(share * epochs, 9))  # 0.3 of 10 is 3, despite rounding errors
