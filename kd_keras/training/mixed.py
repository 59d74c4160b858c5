"""The shared part of objectives that mix labels and methods, by alpha."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from kd_keras import schedules
from kd_keras.methods import Method
from kd_keras.training.objective import Objective
from kd_keras.utils.checks import within

# the keys of a batch that a method gets
KNOWN = ("image", "label", "index", "view", "weight")


class MixedObjective(Objective):
    """Base of objectives with labels and methods: it owns alpha and applies the schedules.

    Args:
        alpha: the weight of the labels, in [0, 1], or a schedule over epochs.
    """

    def __init__(self, alpha: Any, **kwargs):
        super().__init__(**kwargs)
        # a variable, since a number would be a constant of the traced step
        self.label_weight = self.add_weight(shape=(), name="alpha", trainable=False)
        self.alpha = schedules.restored(alpha)

    @property
    def methods(self) -> Sequence[Method]:
        """The methods that make up the loss."""
        raise TypeError(f"{type(self).__name__} must override `methods`.")

    @property
    def alpha(self) -> float:
        """The current weight of the labels. Assigning a number or a schedule retraces nothing."""
        return float(ops.convert_to_numpy(self.label_weight))  # plain float() fails on replicas

    @alpha.setter
    def alpha(self, value) -> None:
        self.label_weight.assign(within("alpha", schedules.value_at(value, 0), 0.0, 1.0))
        self.given_alpha = value

    def adapt_labels(self, labels):
        for method in self.methods:
            method.adapt_labels(labels)

    def begin_epoch(self, epoch):
        alpha = schedules.value_at(self.given_alpha, epoch)
        for method in self.methods:
            method.on_epoch_begin(epoch)
            alpha = method.label_weight(alpha, epoch)
        self.label_weight.assign(within("alpha", alpha, 0.0, 1.0))

    def check_batch_size(self, size):
        for method in self.methods:
            method.check_batch(size)

    def check_index(self, batch: Mapping[str, Any]) -> None:
        """Raise `ValueError` for a batch without `index`, if a method needs it."""
        for method in self.methods:
            if method.needs_index and "index" not in batch:
                raise ValueError(
                    f"{type(method).__name__} needs to know which example is which. Give arrays "
                    'to fit, or let the pipeline yield ({"image": ..., "index": ...}, label).'
                )


def known_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a batch that a method gets beside the student's and teacher's features."""
    return {name: batch[name] for name in KNOWN if name in batch}


def check_unlabelled(method: Method, alpha: Any) -> None:
    """Raise `ValueError` if the method or alpha, a number or a schedule, needs labels."""
    if method.needs_labels:
        raise ValueError(f"{type(method).__name__} needs labels. Received: none")
    if callable(alpha) or alpha > 0:
        raise ValueError(
            "Without labels the student can learn only from the teacher: `alpha` must be 0. "
            f"Received: no labels, alpha={alpha!r}"
        )
