"""The phases of a training: what is frozen, for how long, at which learning rate."""

import dataclasses
import math
from collections.abc import Callable

import keras

from kd_keras import schedules
from kd_keras.config import BudgetConfig
from kd_keras.models import freezing


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a training with weights frozen or not, and a learning rate of its own.

    Attributes:
        rate: the learning rate at an epoch of the training.
    """

    name: str
    first_epoch: int
    last_epoch: int
    rate: Callable[[int], float]
    prepare: Callable[[keras.Model], None]

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """What sets the learning rate at each epoch, where it changes."""
        epochs = range(self.first_epoch, self.last_epoch)
        if len({self.rate(epoch) for epoch in epochs}) < 2:
            return []
        return [keras.callbacks.LearningRateScheduler(self.rate)]


def phases(budget: BudgetConfig, epochs: int) -> list[Phase]:
    """The whole model for `epochs`; in transfer learning, first its head for `head_epochs`."""
    head, rate = budget.head_epochs, learning_rate(budget, epochs)
    if not head:
        return [Phase("all", 0, epochs, rate, lambda model: None)]
    return [
        Phase("head", 0, head, lambda epoch: budget.head_learning_rate, freezing.freeze),
        Phase(
            "fine-tuning",
            head,
            head + epochs,
            lambda epoch: rate(epoch - head),
            lambda model: freezing.unfreeze(model, budget.unfreeze_blocks),
        ),
    ]


def learning_rate(budget: BudgetConfig, epochs: int) -> Callable[[int], float]:
    """The learning rate by epoch, of a training of so many: its drops come at the same shares.

    Example:
        >>> budget = BudgetConfig(learning_rate=0.1, learning_rate_drop=(0.3, 0.2))
        >>> [round(learning_rate(budget, 50)(epoch), 5) for epoch in (14, 15, 30, 45)]
        [0.1, 0.02, 0.004, 0.0008]
    """
    if budget.learning_rate_drop is None:
        return lambda epoch: budget.learning_rate
    share, factor = budget.learning_rate_drop
    every = max(1, math.floor(share * epochs + 1e-9))  # 0.3 of 10 is 3, whatever a float says
    return schedules.Drops(budget.learning_rate, factor, every)
